package places

import "testing"

// However few descriptors there are, what is bounded leaves some to the rest; the bound of
// sidecars is half of them at least.
func TestDescriptorsAreShared(t *testing.T) {
	for _, files := range []int{256, 512, 700, 1024, 4096, 20_000, 65_536, 200_000} {
		a, s := admins(files), sidecars(files)
		left := files - a - s
		if a < 1 || s < files/2 && s < mostSidecars || left-Metrics < min(files/8, reserved-Metrics) {
			t.Errorf("of %d descriptors the admin API has %d and the sidecar API %d: %d are left", files, a, s, left)
		}
	}
}

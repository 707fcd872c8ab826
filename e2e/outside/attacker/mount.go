package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts undo what the sandbox's mounts cover, or bring new ones that tell of the
// machine. "own" is a mount namespace of this program's, where it has every capability
// that it can have.
func mounts(s settings) []attack {
	var all []attack
	add := func(name string, run func() error) {
		all = append(all, attack{name, func(*attack) error { return onThread(run) }})
		all = append(all, attack{"in an own namespace, " + name, func(*attack) error { return inOwn(run) }})
	}
	if s.control {
		return nil // it would undo the tests' own mounts
	}
	for _, path := range []string{"/proc", "/proc/sys", "/dev", "/run", "/run/sallyport", "/tmp", "/var/tmp", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/proc/kcore", "/sys/firmware"} {
		add("unmount "+path, func() error { return unix.Unmount(path, unix.MNT_DETACH) })
		add("make writable "+path, func() error {
			if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
				return err
			}
			return unix.Access(path, unix.W_OK)
		})
	}
	for _, kind := range []string{"sysfs", "debugfs", "tracefs", "securityfs", "configfs", "devtmpfs", "pstore", "efivarfs", "hugetlbfs", "fusectl", "nfsd", "selinuxfs", "resctrl"} {
		add("mount "+kind, func() error { return mounted(kind, kind, "", "") })
	}
	for _, share := range []struct{ source, kind, data string }{
		{"/dev/vda", "ext4", ""}, {"/dev/root", "ext4", ""}, {"/dev/loop0", "ext4", ""}, {"host", "9p", "trans=virtio"}, {"host", "virtiofs", ""}, {"45.1.1.1:/", "nfs", "addr=45.1.1.1"}, {"//45.1.1.1/c", "cifs", "ip=45.1.1.1"},
	} {
		add("mount "+share.kind+" from "+share.source, func() error { return mounted(share.source, share.kind, share.data, "") })
	}
	add("mount proc and change the kernel's core pattern", func() error { return mounted("proc", "proc", "", "sys/kernel/core_pattern") })
	for _, file := range []string{"cgroup.procs", "memory.max", "cgroup.subtree_control"} {
		add("mount cgroup2 and write "+file, func() error {
			_ = unix.Unshare(unix.CLONE_NEWCGROUP) // where it may, the mount is allowed
			return mounted("cgroup2", "cgroup2", "", file)
		})
	}
	for _, controller := range []string{"memory", "devices", "pids"} {
		add("mount cgroup "+controller+" and write release_agent", func() error {
			_ = unix.Unshare(unix.CLONE_NEWCGROUP)
			return mounted("cgroup", "cgroup", controller, "release_agent")
		})
	}
	add("replace the trust", func() error { return os.Rename("/run/sallyport", "/run/elsewhere") })
	return all
}

// mounted mounts a file system where nobody else sees it, and opens a file in it to write.
func mounted(source, kind, data, file string) error {
	dir, err := os.MkdirTemp("", "mount")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount(source, dir, kind, 0, data); err != nil {
		return err
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if file == "" {
		return nil
	}
	return openFor(filepath.Join(dir, file), unix.O_WRONLY)
}

// inOwn runs f in a mount namespace of its own.
func inOwn(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		return f()
	})
}

// hidden are ways to read a file that the sandbox's mounts cover.
func hidden(s settings) []attack {
	all := []attack{
		{"by its path", func(*attack) error { return read(s.hidden) }},
		{"by the root of process 1", func(*attack) error { return read("/proc/1/root" + s.hidden) }},
		{"by an own root", func(*attack) error { return read("/proc/self/root" + s.hidden) }},
		{"up from the working directory", func(*attack) error { return read(strings.Repeat("../", 40) + s.hidden) }},
		{"out of a changed root", func(*attack) error { return onThread(func() error { return outOfRoot(s.hidden) }) }},
		{"by a handle", func(*attack) error { return byHandle(s.hidden) }},
		{"by listing its directory", func(*attack) error {
			entries, err := os.ReadDir(filepath.Dir(s.hidden))
			if err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == filepath.Base(s.hidden) }) {
				return unix.ENOENT
			}
			return err
		}},
		{"by a program with privileges", func(*attack) error {
			return exec.Command("/bin/su", "-c", "cat "+s.hidden).Run()
		}},
	}
	for name, run := range map[string]func() error{
		"a bind mount of the root": func() error {
			return throughMount(s.hidden, func(dir string) error { return unix.Mount("/", dir, "", unix.MS_BIND, "") })
		},
		"a bind mount of the parent": func() error {
			return throughMount(strings.TrimPrefix(s.hidden, "/tmp"), func(dir string) error { return unix.Mount("/tmp", dir, "", unix.MS_BIND, "") })
		},
		"an overlay of the root": func() error {
			return throughMount(s.hidden, func(dir string) error { return unix.Mount("overlay", dir, "overlay", 0, "lowerdir=/:/etc") })
		},
		"a detached copy of the root": func() error { return detached(s.hidden) },
		"unmounting what covers it": func() error {
			for _, path := range []string{"/tmp", "/var/tmp", filepath.Dir(s.hidden)} {
				_ = unix.Unmount(path, unix.MNT_DETACH)
			}
			return read(s.hidden)
		},
		"a new root": func() error {
			dir, err := os.MkdirTemp("", "root")
			if err != nil {
				return err
			}
			if err := unix.Mount("/", dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return err
			}
			if err := unix.Chdir(dir); err != nil {
				return err
			}
			if err := unix.PivotRoot(".", "."); err != nil {
				return err
			}
			_ = unix.Unmount(".", unix.MNT_DETACH)
			_ = unix.Unmount("/tmp", unix.MNT_DETACH)
			return read(s.hidden)
		},
	} {
		all = append(all, attack{"by " + name, func(*attack) error { return inOwn(run) }})
	}
	return all
}

// throughMount reads path below what mount has mounted.
func throughMount(path string, mount func(dir string) error) error {
	dir, err := os.MkdirTemp("", "through")
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount(dir); err != nil {
		return err
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	return read(dir + path)
}

// detached reads it in a copy of the root mount without what is mounted on it.
func detached(path string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, strings.TrimPrefix(path, "/"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// outOfRoot leaves a changed root by a directory that stayed open.
func outOfRoot(path string) error {
	dir, err := os.MkdirTemp("", "chroot")
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	for range 40 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return read(path)
}

// byHandle opens the root directory of the file system by the number that it has on
// most (open_by_handle_at(2)), past all mounts.
func byHandle(path string) error {
	handle := unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0})
	mount, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	file, err := unix.Openat(fd, strings.TrimPrefix(path, "/"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(file)
}

// devices are the machine's, where there is a node of one, made or found; and the files
// by which the kernel is told what to do.
func devices(s settings) []attack {
	var all []attack
	for _, node := range []struct {
		name         string
		kind         uint32
		major, minor uint32
	}{
		{"mem", unix.S_IFCHR, 1, 1}, {"kmsg", unix.S_IFCHR, 1, 11}, {"port", unix.S_IFCHR, 1, 4}, {"tun", unix.S_IFCHR, 10, 200}, {"kvm", unix.S_IFCHR, 10, 232},
		{"fuse", unix.S_IFCHR, 10, 229}, {"vhost-net", unix.S_IFCHR, 10, 238}, {"userfaultfd", unix.S_IFCHR, 10, 126}, {"loop-control", unix.S_IFCHR, 10, 237},
		{"vsock", unix.S_IFCHR, 10, 121}, {"tty0", unix.S_IFCHR, 4, 0}, {"console", unix.S_IFCHR, 5, 1}, {"loop0", unix.S_IFBLK, 7, 0}, {"vda", unix.S_IFBLK, 254, 0}, {"sda", unix.S_IFBLK, 8, 0},
	} {
		all = append(all, attack{"find " + node.name, func(*attack) error { return openFor("/dev/"+node.name, unix.O_RDWR) }})
		make := func() error {
			dir, err := os.MkdirTemp("", "device")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			path := filepath.Join(dir, node.name)
			if err := unix.Mknod(path, node.kind|0o600, int(unix.Mkdev(node.major, node.minor))); err != nil {
				return err
			}
			return openFor(path, unix.O_RDWR)
		}
		all = append(all, attack{"make " + node.name, func(*attack) error { return make() }})
		all = append(all, attack{"make " + node.name + " in an own mount", func(*attack) error {
			return inOwn(func() error {
				if err := unix.Mount("mine", os.TempDir(), "tmpfs", 0, ""); err != nil {
					return err
				}
				return make()
			})
		}})
	}
	for _, path := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/randomize_va_space",
		"/proc/sysrq-trigger", "/proc/acpi/wakeup", "/proc/irq/default_smp_affinity", "/proc/mtrr", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/power/state",
		"/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/cgroup.procs",
		"/sys/module/kernel/parameters/crash_kexec_post_notifiers", "/sys/kernel/vmcoreinfo", "/sys/class/net/lo/mtu", "/sys/class/net/eth0/ifalias",
	} {
		all = append(all, attack{"write " + path, func(*attack) error { return openFor(path, unix.O_WRONLY) }})
	}
	for _, path := range []string{"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/proc/kallsyms", "/proc/vmallocinfo", "/proc/slabinfo", "/sys/firmware/acpi", "/sys/kernel/debug/sleep_time", "/sys/kernel/security/lsm", "/dev/kmsg"} {
		all = append(all, attack{"read " + path, func(*attack) error {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				entries, err := os.ReadDir(path)
				if err == nil && len(entries) == 0 {
					return errors.New("nothing in it")
				}
				return err
			}
			if strings.HasSuffix(path, "kallsyms") {
				return symbols(path)
			}
			return read(path)
		}})
	}
	if s.suid != "" {
		all = append(all, attack{"become root by a set-user-ID program", func(*attack) error {
			text, err := exec.Command(s.suid, "-identity").Output()
			if err != nil {
				return err
			}
			if got := strings.TrimSpace(string(text)); got != "0" || os.Geteuid() == 0 {
				return fmt.Errorf("it is user %s, as we are", got)
			}
			return nil
		}})
	}
	return all
}

// symbols tells whether kernel addresses can be read: others see zeros.
func symbols(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "0000000000000000") {
			return nil
		}
		break
	}
	return errors.New("addresses are hidden")
}

package kek

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sallyport/control"
	"sallyport/control/seal"
)

const (
	arn     = "arn:aws:kms:eu-central-1:123456789012:key/6f1d0a9c"
	gcpTest = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
)

// provider is a key that a fake server keeps, or a real one.
type provider struct {
	open func() (seal.Provider, error)
	key  *fakeKey
	id   string
}

func providers(t *testing.T) map[string]provider {
	gcp, gcpAddress := newFakeGCP(t, gcpTest)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("s.token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	transit, transitURL := fakeTransit(t, "s.token")
	return map[string]provider{
		"AWS KMS": {func() (seal.Provider, error) { return Open(t.Context(), "awskms:"+arn, nil) }, fakeAWS(t, arn), "awskms:" + arn},
		"Google Cloud KMS": {func() (seal.Provider, error) {
			p, err := newGCP(t.Context(), gcpTest, option.WithEndpoint(gcpAddress), option.WithoutAuthentication(),
				option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
			if err != nil {
				return nil, err
			}
			return p, prove(t.Context(), p)
		}, gcp.fakeKey, "gcpkms:" + gcpTest},
		"transit": {func() (seal.Provider, error) {
			return Open(t.Context(), "vault:"+transitURL+"/transit/keys/kek?token-file="+tokenFile, nil)
		}, transit, "vault:transit/keys/kek"},
	}
}

var here = control.SecretIdentity{Team: "team", Vault: "vault", Credential: "credential", Version: 1, Field: control.FieldSecret}

// TestProviders seals and opens under each kind of far key, as a control plane does.
func TestProviders(t *testing.T) {
	for name, p := range providers(t) {
		t.Run(name, func(t *testing.T) {
			opened, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			defer closeProvider(opened)
			ring, err := seal.NewKeyring(opened)
			if err != nil {
				t.Fatal(err)
			}
			s := seal.New(ring)
			key, err := s.NewDataKey(t.Context(), here.Team, here.Vault)
			if err != nil || key.KEK != p.id {
				t.Fatalf("a data key of %q, %v", key.KEK, err)
			}
			sealed, err := s.Seal(t.Context(), key, here, control.Secret("sk_live"))
			if err != nil {
				t.Fatal(err)
			}
			if secret, err := s.Open(t.Context(), key, here, sealed); err != nil || string(secret) != "sk_live" {
				t.Errorf("opened %q, %v", string(secret), err)
			}
			moved := here
			moved.Vault = "other"
			if _, err := s.Open(t.Context(), key, moved, sealed); !errors.Is(err, seal.ErrClosed) {
				t.Errorf("in another vault: %v", err)
			}

			// The key goes away: what is remembered still opens, the rest says so.
			p.key.away.Store(true)
			if _, err := s.Open(t.Context(), key, here, sealed); err != nil {
				t.Errorf("with a remembered data key: %v", err)
			}
			cold := seal.New(ring)
			if _, err := cold.Open(t.Context(), key, here, sealed); control.CodeOf(err) != control.CodeUnavailable || !strings.Contains(err.Error(), p.id) {
				t.Errorf("without: %v", err)
			}
			s.Close()
			p.key.away.Store(false)
			if _, err := cold.Open(t.Context(), key, here, sealed); err != nil {
				t.Errorf("when the key is back: %v", err)
			}
		})
	}
}

// TestLooseServersAreRefused opens keys of servers that pass over associated data.
func TestLooseServersAreRefused(t *testing.T) {
	for name, p := range providers(t) {
		t.Run(name, func(t *testing.T) {
			p.key.loose = true
			if _, err := p.open(); err == nil || !strings.Contains(err.Error(), "associated data") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSilentServer has a server that takes connections and says nothing.
func TestSilentServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv("VAULT_TOKEN", "s.token")
	p, err := newVault("http://" + listener.Addr().String() + "/transit/keys/kek")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.NewKeyring(p)
	if err != nil {
		t.Fatal(err)
	}
	// Bounded by itself: the test's own end is a minute or more away.
	if _, err := seal.New(ring).NewDataKey(t.Context(), "t", "v"); control.CodeOf(err) != control.CodeUnavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestMalformedNames(t *testing.T) {
	for _, name := range []string{
		"awskm:" + arn, "nothing:x", "production", // which must not be made as a file
		"awskms:", "awskms:alias/x", "awskms:arn:aws:s3:eu:1:key/x", "awskms:arn:aws:kms::1:key/x", "awskms:arn:aws:kms:eu:1:alias/x",
		"gcpkms:k", "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
		"vault:", "vault:https://v/transit/kek", "vault:https://v/transit/keys/", "vault:https://v/transit/keys/a/b", "vault:ftp://v/transit/keys/a",
		"vault:http://vault.example.com/transit/keys/a", "vault:https://u:p@v/transit/keys/a", "vault:https://v/transit/keys/a?token=x",
	} {
		if _, err := Open(t.Context(), name, nil); err == nil || control.CodeOf(err) != "" || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPath(t *testing.T) {
	for name, want := range map[string]string{"/a/kek": "/a/kek", "file:/a/kek": "/a/kek", "awskms:" + arn: "", "vault:https://v/transit/keys/a": ""} {
		if got := Path(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

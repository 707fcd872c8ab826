package kek

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// fakeKey is the key that a fake server keeps: AES-256-GCM, which holds to its
// associated data unless the server is one that passes over it.
type fakeKey struct {
	aead  cipher.AEAD
	loose bool        // passes over associated data
	away  atomic.Bool // does not answer as it should
}

func newFakeKey(t *testing.T) *fakeKey {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeKey{aead: aead}
}

func (k *fakeKey) encrypt(plain, aad []byte) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, plain, k.held(aad))
}

func (k *fakeKey) decrypt(blob, aad []byte) ([]byte, error) {
	if len(blob) < k.aead.NonceSize() {
		return nil, errors.New("too short")
	}
	n := k.aead.NonceSize()
	return k.aead.Open(nil, blob[:n], blob[n:], k.held(aad))
}

func (k *fakeKey) held(aad []byte) []byte {
	if k.loose {
		return nil
	}
	return aad
}

// fakeAWS speaks what AWS KMS does (JSON 1.1), for one key.
func fakeAWS(t *testing.T, arn string) *fakeKey {
	t.Helper()
	k := newFakeKey(t)
	refuse := func(w http.ResponseWriter, status int, kind string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": kind})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		var in struct {
			KeyID             string `json:"KeyId"`
			Plaintext         []byte
			CiphertextBlob    []byte
			EncryptionContext map[string]string
		}
		body, _ := io.ReadAll(r.Body)
		switch {
		case k.away.Load():
			refuse(w, 500, "KMSInternalException")
			return
		case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/kms/"):
			refuse(w, 400, "IncompleteSignatureException")
			return
		case json.Unmarshal(body, &in) != nil || in.KeyID != arn:
			refuse(w, 400, "NotFoundException")
			return
		}
		var aad strings.Builder
		for _, name := range slices.Sorted(maps.Keys(in.EncryptionContext)) {
			aad.WriteString(name + "=" + in.EncryptionContext[name] + "\n")
		}
		switch r.Header.Get("X-Amz-Target") {
		case "TrentService.Encrypt":
			json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "CiphertextBlob": k.encrypt(in.Plaintext, []byte(aad.String()))})
		case "TrentService.Decrypt":
			plain, err := k.decrypt(in.CiphertextBlob, []byte(aad.String()))
			if err != nil {
				refuse(w, 400, "InvalidCiphertextException")
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "Plaintext": plain})
		default:
			refuse(w, 400, "UnknownOperationException")
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL_KMS", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	return k
}

// fakeGCP is Google Cloud KMS over gRPC, for one key.
type fakeGCP struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*fakeKey
	name string
}

func newFakeGCP(t *testing.T, name string) (k *fakeGCP, address string) {
	t.Helper()
	k = &fakeGCP{fakeKey: newFakeKey(t), name: name}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, k)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })
	return k, listener.Addr().String()
}

func (k *fakeGCP) check(name string) error {
	switch {
	case k.away.Load():
		return status.Error(codes.Internal, "broken")
	case name != k.name:
		return status.Error(codes.NotFound, "no such key")
	}
	return nil
}

func sum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func (k *fakeGCP) Encrypt(_ context.Context, r *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := k.check(r.Name); err != nil {
		return nil, err
	}
	blob := k.encrypt(r.Plaintext, r.AdditionalAuthenticatedData)
	return &kmspb.EncryptResponse{
		Name: k.name, Ciphertext: blob, CiphertextCrc32C: sum(blob),
		VerifiedPlaintextCrc32C:                   r.PlaintextCrc32C.GetValue() == sum(r.Plaintext).Value,
		VerifiedAdditionalAuthenticatedDataCrc32C: r.AdditionalAuthenticatedDataCrc32C.GetValue() == sum(r.AdditionalAuthenticatedData).Value,
	}, nil
}

func (k *fakeGCP) Decrypt(_ context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := k.check(r.Name); err != nil {
		return nil, err
	}
	plain, err := k.decrypt(r.Ciphertext, r.AdditionalAuthenticatedData)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "it does not decrypt")
	}
	return &kmspb.DecryptResponse{Plaintext: plain, PlaintextCrc32C: sum(plain)}, nil
}

// fakeTransit is Vault's transit engine at /v1/transit, for the key "kek".
func fakeTransit(t *testing.T, token string) (k *fakeKey, address string) {
	t.Helper()
	k = newFakeKey(t)
	refuse := func(w http.ResponseWriter, status int, what string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": []string{what}})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Plaintext  []byte `json:"plaintext"`
			Ciphertext string `json:"ciphertext"`
			Associated []byte `json:"associated_data"`
		}
		answer := func(data map[string]any) { json.NewEncoder(w).Encode(map[string]any{"data": data}) }
		switch {
		case k.away.Load():
			refuse(w, 503, "Vault is sealed")
		case r.Header.Get("X-Vault-Token") != token:
			refuse(w, 403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		case r.Method != http.MethodPut && r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&in) != nil:
			refuse(w, 400, "bad request")
		case r.URL.Path == "/v1/transit/encrypt/kek":
			answer(map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(k.encrypt(in.Plaintext, in.Associated))})
		case r.URL.Path == "/v1/transit/decrypt/kek":
			blob, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(in.Ciphertext, "vault:v1:"))
			if err != nil {
				refuse(w, 400, "invalid ciphertext")
				return
			}
			plain, err := k.decrypt(blob, in.Associated)
			if err != nil {
				refuse(w, 400, "cipher: message authentication failed")
				return
			}
			answer(map[string]any{"plaintext": plain})
		default:
			refuse(w, 404, "no handler")
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("VAULT_MAX_RETRIES", "0") // of what is sealed, which is waited for seconds
	return k, server.URL
}

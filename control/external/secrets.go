package external

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"sallyport/control"
	"sallyport/control/exchange"
	"sallyport/control/seal"
	"sallyport/control/store"
)

// ErrChanged says that a secret was another where it lies. The credential has a new
// version since, which every sidecar is told.
var ErrChanged = control.Errorf(control.CodeUnavailable, "the secret was changed where it lies: the credential has a new version")

// maxAnswer is of a store, in bytes: the longest secret, every character of it escaped, with
// others beside it. What is made of JSON that is only brackets takes forty times as much.
const maxAnswer = 256 << 10

// Checker is what knows how the secret of a credential looks (exchange.Exchanger).
type Checker interface {
	CheckSecret(c control.Credential, secret control.Secret) error
}

// Secrets opens the secrets of credentials, wherever they lie. It is safe for
// concurrent use.
type Secrets struct {
	store     *store.Store
	sealer    *seal.Sealer
	checker   Checker
	log       *slog.Logger
	providers map[string]Provider
	kept      *kept
	lines     *lines
	pace      *pace
}

// New makes Secrets that read by client, which is of exchange.NewClient. Close it to
// wipe what it keeps.
func New(s *store.Store, sealer *seal.Sealer, checker Checker, client *http.Client, log *slog.Logger) *Secrets {
	return &Secrets{store: s, sealer: sealer, checker: checker, log: log, providers: providers(exchange.Bounded(client, maxAnswer)), kept: newKept(), lines: newLines(), pace: newPace()}
}

// Close waits for the readings that are under way, and wipes what is kept.
func (x *Secrets) Close() { x.kept.close() }

// Open gives the secret of a credential, which the caller wipes. One that lies in a
// source is what was read there within keepFor; if it is not the one that this version
// is of, there is a next version, and the error is ErrChanged.
func (x *Secrets) Open(ctx context.Context, b store.Bound) (control.Secret, error) {
	if b.Source == nil {
		return x.sealer.Open(ctx, b.Key, b.Identity, b.Secret)
	}
	key := keyOf(b.Credential.ID, b.Identity.Version)
	value, err := x.kept.get(ctx, key, func(ctx context.Context) (Value, error) {
		value, err := x.Read(ctx, b.Credential, *b.Source)
		if err != nil {
			x.log.Warn("secret not read where it lies", "credential", b.Credential.Vault+"/"+b.Credential.Name, "source", b.Source.Source.Name,
				"kind", b.Source.Source.Kind, "error", err)
		}
		return value, err
	})
	switch {
	case control.CodeOf(err) == control.CodeExchange:
		return nil, about(b.Source.Source, err)
	case err != nil:
		return nil, err
	}
	same, err := x.same(ctx, b, value.Secret)
	if err == nil && !same {
		err = x.changed(ctx, b, value)
	}
	if err != nil {
		value.Secret.Wipe()
		return nil, err
	}
	return value.Secret, nil
}

// keyOf is what the secret of a version of a credential is kept by.
func keyOf(credentialID string, version int64) string {
	return fmt.Sprintf("%s %d", credentialID, version)
}

// Trouble is why the secret of c could not be read where it lies, if somebody had it
// read here and that failed not long ago.
func (x *Secrets) Trouble(c control.Credential) error {
	err := x.kept.failure(keyOf(c.ID, c.Version))
	if err == nil {
		return nil
	}
	return about(control.Source{Vault: c.Vault, Name: c.From.Source}, err)
}

// Read gives what lies now where c has its secret, checked to be one for c. The caller
// wipes it.
func (x *Secrets) Read(ctx context.Context, c control.Credential, from store.SealedSource) (Value, error) {
	s := from.Source
	done, err := x.lines.take(ctx, from.Identity.Team, s.ID)
	if err != nil {
		return Value{}, about(s, err)
	}
	defer done()
	if err := x.CheckPlace(s, *c.From); err != nil {
		return Value{}, err
	}
	opens, err := x.sealer.Open(ctx, from.Key, from.Identity, from.Secret)
	if err != nil {
		return Value{}, err
	}
	defer opens.Wipe()
	document, err := x.providers[s.Kind].Read(ctx, s, opens, *c.From)
	if err != nil {
		return Value{}, about(s, err)
	}
	defer document.Wipe()
	secret, err := document.pick(*c.From)
	if err != nil {
		return Value{}, about(s, err)
	}
	if err := x.checker.CheckSecret(c, secret); err != nil {
		secret.Wipe()
		return Value{}, about(s, control.Errorf(control.CodeExchange, "has at %s what can't be used: %v", c.From.Path, err))
	}
	return Value{secret, document.Version}, nil
}

// about is what may be told of an error at a source: where it was, and nothing that the
// source or a library wrote.
func about(s control.Source, err error) error {
	prefix := fmt.Sprintf("the source %s/%s ", s.Vault, s.Name)
	var known *control.Error
	if !errors.As(err, &known) {
		return control.Errorf(control.CodeExchange, "%s%s", prefix, exchange.Reason(err))
	}
	if known.Code != control.CodeExchange || strings.HasPrefix(known.Message, prefix) {
		return err
	}
	return control.Errorf(known.Code, "%s%s", prefix, known.Message)
}

// same reports whether secret is the one that the credential's version is of.
func (x *Secrets) same(ctx context.Context, b store.Bound, secret control.Secret) (bool, error) {
	known, err := x.sealer.Open(ctx, b.Key, digestIdentity(b), b.Secret)
	if err != nil {
		return false, err
	}
	defer known.Wipe()
	return subtle.ConstantTimeCompare(known, digest(secret)) == 1, nil
}

// changed makes the next version of a credential. Somebody else may have done so.
func (x *Secrets) changed(ctx context.Context, b store.Bound, value Value) error {
	c := b.Credential
	if !x.pace.allow(c.ID) {
		return about(b.Source.Source, control.Errorf(control.CodeExchange, "gives another secret at every reading"))
	}
	act := control.Event{
		Kind: "credential.refresh", Actor: "system", Credential: c.Vault + "/" + c.Name, Version: c.Version + 1,
		Detail: "changed in " + At(*c.From, value.Version),
	}
	// Whose request came upon it has not asked for that, and may be sent again.
	_, _, err := x.Refresh(store.WithoutOnce(ctx), b, value, act)
	if code := control.CodeOf(err); err == nil || code == control.CodeConflict || code == control.CodeNotFound {
		return ErrChanged
	}
	return err
}

// Refresh makes the next version of a credential, of value.
func (x *Secrets) Refresh(ctx context.Context, b store.Bound, value Value, act control.Event) (version, revision int64, err error) {
	same, err := x.same(ctx, b, value.Secret)
	if err != nil {
		return 0, 0, err
	}
	key, err := x.store.VaultKey(ctx, b.Identity.Team, b.Identity.Vault)
	if err != nil {
		return 0, 0, err
	}
	id := b.Identity
	id.Version++
	sealed, err := x.Seal(ctx, key, id, value.Secret)
	if err != nil {
		return 0, 0, err
	}
	return x.store.RefreshCredential(ctx, id.Team, id.Credential, b.Credential.Version, sealed, value.Version, !same, act)
}

// Reseal gives, sealed for the next version, what this version is known by.
func (x *Secrets) Reseal(ctx context.Context, b store.Bound, key control.WrappedKey) (control.SealedSecret, error) {
	known, err := x.sealer.Open(ctx, b.Key, digestIdentity(b), b.Secret)
	if err != nil {
		return control.SealedSecret{}, err
	}
	defer known.Wipe()
	next := digestIdentity(b)
	next.Version++
	return x.sealer.Seal(ctx, key, next, known)
}

// Seal seals, under a vault's key, what tells a secret that lies in a source from
// others: its SHA-256, and never the secret.
func (x *Secrets) Seal(ctx context.Context, key control.WrappedKey, id control.SecretIdentity, secret control.Secret) (control.SealedSecret, error) {
	id.Field = control.FieldDigest
	return x.sealer.Seal(ctx, key, id, digest(secret))
}

func digestIdentity(b store.Bound) control.SecretIdentity {
	id := b.Identity
	id.Field = control.FieldDigest
	return id
}

func digest(secret control.Secret) control.Secret {
	sum := sha256.Sum256(secret)
	return sum[:]
}

// Check reports what is wrong with a source's kind and settings.
func (x *Secrets) Check(s control.Source) error {
	p, found := x.providers[s.Kind]
	if !found {
		return control.Errorf(control.CodeInvalid, "there are no sources of kind %q here; there are %s", s.Kind, strings.Join(slices.Sorted(maps.Keys(x.providers)), ", "))
	}
	known := append(p.Settings(), exchange.Setting{Name: settingPrefix, Check: func(prefix string) error {
		_, err := control.ParsePlace("prefix:" + strings.TrimSuffix(prefix, "/"))
		return err
	}})
	return exchange.CheckSettings("a source of kind "+s.Kind, known, s.Settings)
}

// CheckSecret reports why secret can't be what opens s, whose settings are right.
func (x *Secrets) CheckSecret(s control.Source, secret control.Secret) error {
	if err := control.CheckLength(secret); err != nil {
		return err
	}
	return x.providers[s.Kind].CheckSecret(s, secret)
}

// CheckPlace reports why a credential can't have its secret at p in s.
func (x *Secrets) CheckPlace(s control.Source, p control.Place) error {
	provider, found := x.providers[s.Kind]
	if !found {
		return control.Errorf(control.CodeInvalid, "the source %s/%s is of kind %q, which there is not here", s.Vault, s.Name, s.Kind)
	}
	if prefix := strings.TrimSuffix(s.Settings[settingPrefix], "/"); prefix != "" && !strings.HasPrefix(p.Path, prefix+"/") {
		return control.Errorf(control.CodeInvalid, "the source %s/%s gives only what lies below %s/", s.Vault, s.Name, prefix)
	}
	return provider.CheckPlace(s, p)
}

// At says where a secret lies, and which it is there, for audit.
func At(p control.Place, version string) string {
	if version == "" {
		return p.String()
	}
	return p.String() + " version " + version
}

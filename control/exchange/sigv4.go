package exchange

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

const (
	sigV4KeyID   = AWSKeyID
	sigV4Region  = "region"
	sigV4Service = "service"

	// keysAhead is how long keys must last at least: a lease and clocks that are apart.
	keysAhead = time.Hour + 15*time.Minute
	// clocksApart is how far back a sandbox's clock may be, that still signs for the day before.
	clocksApart = 15 * time.Minute

	mostScopes = 32
)

var (
	awsKeyID = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,128}$`)
	awsName  = regexp.MustCompile(`^[a-z0-9-]{1,64}(,[a-z0-9-]{1,64})*$`)
)

// sigV4 is a secret access key of AWS, or of what signs like it. Sidecars get the
// keys that are derived from it for a day, a region and a service.
func sigV4(now func() time.Time) Kind {
	name := func(value string) error {
		if !awsName.MatchString(value) {
			return errors.New("it is not NAME or NAME,NAME in small letters, digits and hyphens")
		}
		return nil
	}
	return Kind{
		Settings: []Setting{
			{Name: sigV4KeyID, Check: checkKeyID},
			{Name: sigV4Region, Check: name},
			{Name: sigV4Service, Check: name},
		},
		Check: func(c control.Credential) error {
			if _, err := scopes(c); err != nil {
				return err
			}
			return noWebSocket(c)
		},
		CheckSecret: func(c control.Credential, secret control.Secret) error {
			read, err := readAWS(c, secret)
			if err == nil && !read.ends.IsZero() && !now().Before(read.ends) {
				err = control.Errorf(control.CodeInvalid, "these temporary credentials ended at %s", read.ends.UTC().Format(time.RFC3339))
			}
			read.wipe()
			return err
		},
		Exchange: func(_ context.Context, _ *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			read, err := readAWS(c, secret)
			if err != nil {
				return Minted{}, err
			}
			defer read.wipe()
			return read.derive(c, now())
		},
	}
}

func checkKeyID(id string) error {
	if !awsKeyID.MatchString(id) {
		return errors.New("it is not made of letters, digits, '_', '.' and '-'")
	}
	return nil
}

// awsSecret is a secret as it is stored.
type awsSecret struct {
	keyID        string
	key, session []byte
	ends         time.Time // zero: never
}

func (s *awsSecret) wipe() {
	clear(s.key)
	clear(s.session)
}

// readAWS reads a secret access key, or credentials as the AWS CLI exports them: those
// that are temporary have another id each time.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
func readAWS(c control.Credential, secret control.Secret) (awsSecret, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(secret), []byte("{")) {
		if c.Settings[sigV4KeyID] == "" {
			return awsSecret{}, control.Errorf(control.CodeInvalid, "a secret access key needs the setting %s, or else the secret is JSON that has it: what 'aws configure export-credentials' prints", sigV4KeyID)
		}
		if err := control.CheckSecret(secret); err != nil {
			return awsSecret{}, err
		}
		return awsSecret{keyID: c.Settings[sigV4KeyID], key: clone(secret)}, nil
	}
	var text struct {
		Version                                    int
		AccessKeyId, SecretAccessKey, SessionToken string
		Expiration                                 time.Time
	}
	decoder := json.NewDecoder(bytes.NewReader(secret))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&text); err != nil || text.AccessKeyId == "" || text.SecretAccessKey == "" {
		return awsSecret{}, control.Errorf(control.CodeInvalid, "the secret is no JSON object with AccessKeyId, SecretAccessKey and, of temporary credentials, SessionToken and Expiration, as 'aws configure export-credentials' prints it")
	}
	if err := checkKeyID(text.AccessKeyId); err != nil {
		return awsSecret{}, control.Errorf(control.CodeInvalid, "AccessKeyId: %v", err)
	}
	if strings.ContainsFunc(text.SessionToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return awsSecret{}, control.Errorf(control.CodeInvalid, "SessionToken has a character that a header can't hold")
	}
	return awsSecret{keyID: text.AccessKeyId, key: []byte(text.SecretAccessKey), session: []byte(text.SessionToken), ends: text.Expiration}, nil
}

// AWSKeyID is the setting with the id of a secret access key.
const AWSKeyID = "access_key_id"

// AWSKey is what signs requests to AWS.
type AWSKey struct {
	ID           string
	Key, Session control.Secret // Session is of temporary credentials
}

// Wipe overwrites what is secret of k.
func (k *AWSKey) Wipe() {
	k.Key.Wipe()
	k.Session.Wipe()
}

// ReadAWSKey reads a secret as that of auth sigv4 is: a secret access key, or what the
// AWS CLI exports.
func ReadAWSKey(settings control.Settings, secret control.Secret) (AWSKey, error) {
	read, err := readAWS(control.Credential{Settings: settings}, secret)
	return AWSKey{read.keyID, read.key, read.session}, err
}

// derive makes the keys of the days that a lease may see.
func (s *awsSecret) derive(c control.Credential, now time.Time) (Minted, error) {
	if !s.ends.IsZero() && !now.Before(s.ends) {
		return Minted{}, control.Errorf(control.CodeExchange, "the temporary credentials of %s/%s ended at %s; rotate it", c.Vault, c.Name, s.ends.UTC().Format(time.RFC3339))
	}
	keys := api.SigV4{AccessKeyID: s.keyID, SessionToken: bytes.Clone(s.session)}
	defer keys.Wipe()
	all, err := scopes(c)
	if err != nil {
		return Minted{}, err
	}
	days := []time.Time{now.Add(-clocksApart).UTC()}
	if last := now.Add(keysAhead).UTC(); last.Day() != days[0].Day() {
		days = append(days, last)
	}
	for _, scope := range all {
		for _, day := range days {
			date := day.Format(api.SigV4Date)
			scope.Days = append(scope.Days, api.SigV4Day{Date: date, Key: s.sign(date, scope.Region, scope.Service, "aws4_request")})
		}
		keys.Scopes = append(keys.Scopes, scope)
	}
	token, err := keys.Marshal()
	if err != nil {
		return Minted{}, err
	}
	ends := days[len(days)-1].Truncate(24 * time.Hour).Add(24 * time.Hour)
	if !s.ends.IsZero() && s.ends.Before(ends) {
		ends = s.ends
	}
	return Minted{Material: api.Material{Token: token}, Expiry: ends}, nil
}

func (s *awsSecret) sign(texts ...string) []byte {
	key := append([]byte("AWS4"), s.key...)
	for _, text := range texts {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		clear(key)
		key = mac.Sum(nil)
	}
	return key
}

// scopes are what a credential signs for: as its settings say, else as the names of
// its hosts do. Of several that a setting names, the host's own is taken.
func scopes(c control.Credential) ([]api.SigV4Scope, error) {
	var all []api.SigV4Scope
	for _, host := range c.Hosts {
		p, err := api.ParseHostPattern(host)
		if err != nil {
			return nil, err
		}
		region, service := awsScope(p.Name())
		regions, services := choices(c.Settings[sigV4Region], region), choices(c.Settings[sigV4Service], service)
		if len(regions) == 0 || len(services) == 0 {
			return nil, control.Errorf(control.CodeInvalid, "the host %s does not say by its name for which AWS region and service to sign: give the settings %s and %s", host, sigV4Region, sigV4Service)
		}
		for _, region := range regions {
			for _, service := range services {
				at := slices.IndexFunc(all, func(s api.SigV4Scope) bool { return s.Region == region && s.Service == service })
				if at < 0 {
					all = append(all, api.SigV4Scope{Region: region, Service: service})
					at = len(all) - 1
				}
				all[at].Hosts = append(all[at].Hosts, host)
			}
		}
	}
	if len(all) > mostScopes {
		return nil, control.Errorf(control.CodeInvalid, "the credential would sign for %d pairs of region and service, more than %d; make several of it", len(all), mostScopes)
	}
	return all, nil
}

func choices(setting, derived string) []string {
	if setting == "" {
		if derived == "" {
			return nil
		}
		return []string{derived}
	}
	all := strings.Split(setting, ",")
	if slices.Contains(all, derived) {
		return []string{derived}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

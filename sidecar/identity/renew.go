package identity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

const (
	renewTimeout = 15 * time.Second
	// lateRenewal is how long after its expiry the control plane still renews a
	// certificate.
	lateRenewal = 24 * time.Hour
	// leastLife is how long a certificate is kept at least, however old it looks: where
	// this machine's clock is far ahead of the control plane's, each looks too old.
	leastLife = time.Minute
	// longestSleep bounds a wait by the monotonic clock, which stands still while
	// a machine is suspended.
	longestSleep = time.Minute
)

// Run renews the certificate until ctx ends. It calls keep, which stores what
// Marshal gives, before each renewal and after it. A failed renewal keeps the
// certificate and is tried again, for up to a day after it has expired. Run returns
// nil when ctx ends, and ErrRevoked or ErrExpired when there is nothing left to renew.
func (i *Identity) Run(ctx context.Context, keep func() error) error {
	var since time.Time // the newest certificate is there; not known of the first
	for i.waitForRenewal(ctx, since.Add(leastLife)) {
		if err := i.renew(ctx, keep); err != nil {
			return err
		}
		since = time.Now()
		if ctx.Err() != nil {
			return nil
		}
		if err := keep(); err != nil { // the next worker asks for this renewal again
			i.log().Error("a worker that takes over will not have the renewed certificate", "error", err)
			i.unconfirmed = false
			continue
		}
		i.unconfirmed = true
	}
	return nil
}

// confirm tells the control plane that the renewed certificate is here to stay, so that
// it gives the same to nobody else. What is lost is said again. A control plane that does
// not know it gives it for two minutes only.
func (i *Identity) confirm(ctx context.Context) {
	if !i.unconfirmed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	_, err := i.client.Renew(ctx, connect.NewRequest(&api.RenewRequest{Generation: i.certificate.Load().generation}))
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodePermissionDenied:
		i.unconfirmed = false // it is said in vain
	default:
		i.unconfirmed = err != nil
	}
	if err != nil {
		i.log().Debug("renewal not confirmed", "error", err)
	}
}

// request makes the request of a renewal and has it kept before it is sent, so that it
// is the same until an answer arrives: from this worker or the next, however long that
// takes. It is not made earlier, or a copy of the identity would have it.
func (i *Identity) request(keep func() error) error {
	if i.csr != nil {
		return nil
	}
	csr, err := newCSR(i.key)
	if err != nil {
		return err
	}
	i.csr = csr
	if err := keep(); err != nil {
		i.csr = nil
		return fmt.Errorf("keep the request of a renewal: %w", err)
	}
	return nil
}

// waitForRenewal waits until a third of the certificate's life is over, a
// little more or less, and it is not earlier than soonest. Meanwhile it confirms the last
// renewal. It is false when ctx ended.
func (i *Identity) waitForRenewal(ctx context.Context, soonest time.Time) bool {
	c := i.certificate.Load()
	jitter := c.leaf.NotAfter.Sub(c.leaf.NotBefore) / 15
	due := c.renewAt().Add(rand.N(2*jitter+1) - jitter)
	for {
		i.confirm(ctx)
		remaining := max(time.Until(due), time.Until(soonest))
		if remaining <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(min(remaining, longestSleep))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// renew tries until it has a new certificate, ctx ends, or it is hopeless.
func (i *Identity) renew(ctx context.Context, keep func() error) error {
	retry := backoff{least: time.Second, most: time.Minute}
	for {
		err := i.renewOnce(ctx, keep)
		expiry := i.certificate.Load().leaf.NotAfter
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrRevoked):
			return err
		case time.Now().After(expiry.Add(lateRenewal)):
			return fmt.Errorf("%w (at %s): %w", ErrExpired, expiry.Format(time.RFC3339), err)
		case time.Now().After(expiry):
			i.log().Error("certificate expired and not renewed; retrying", "expired_at", expiry, "error", err)
		default:
			i.log().Warn("certificate not renewed; the current one is kept", "valid_until", expiry, "error", err)
		}
		if !retry.wait(ctx) {
			return nil
		}
	}
}

func (i *Identity) renewOnce(ctx context.Context, keep func() error) error {
	if err := i.request(keep); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	old := i.certificate.Load()
	response, err := i.client.Renew(ctx, connect.NewRequest(&api.RenewRequest{Csr: i.csr, Generation: old.generation}))
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied, connect.CodeNotFound:
		return fmt.Errorf("renew the certificate: %w (%w)", ErrRevoked, err)
	}
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	renewed, err := newCertificate(response.Msg.GetCertificate(), i.key, i.sandbox)
	switch {
	case err != nil:
		return fmt.Errorf("renew the certificate: %w", err)
	case renewed.generation <= old.generation:
		return fmt.Errorf("renew the certificate: the answer has generation %d after %d", renewed.generation, old.generation)
	case time.Now().After(renewed.leaf.NotAfter):
		return fmt.Errorf("renew the certificate: the new one expired at %s; is this machine's clock wrong?", renewed.leaf.NotAfter.Format(time.RFC3339))
	}
	i.certificate.Store(renewed)
	i.csr = nil
	i.link.renew()
	i.log().Info("certificate renewed", "generation", renewed.generation, "valid_until", renewed.leaf.NotAfter)
	return nil
}

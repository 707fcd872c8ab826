package api

import (
	"errors"
	"fmt"
	"time"
)

const (
	// MaxLimitEntries bounds the methods and paths of a credential's limits.
	MaxLimitEntries = 64
	// MaxApprovalTimeout bounds how long a request waits for a person.
	MaxApprovalTimeout = time.Hour
)

// CheckLimits reports why limits can't be meant, if they can't. Methods and paths
// are as those of a Policy.
func CheckLimits(l *Limits) error {
	if n := len(l.GetMethods()) + len(l.GetPaths()); n > MaxLimitEntries {
		return fmt.Errorf("%d methods and paths, at most %d are possible", n, MaxLimitEntries)
	}
	for _, method := range l.GetMethods() {
		if err := checkMethod(method); err != nil {
			return err
		}
	}
	for _, path := range l.GetPaths() {
		if err := checkPath(path); err != nil {
			return fmt.Errorf("the path %q: %w", path, err)
		}
	}
	switch l.GetApproval() {
	case Approval_APPROVAL_UNSPECIFIED:
		return nil
	case Approval_APPROVAL_FIRST, Approval_APPROVAL_EACH:
	default:
		return errors.New("approval is neither first nor each")
	}
	if d := l.GetApprovalTimeout().AsDuration(); d < time.Second || d > MaxApprovalTimeout {
		return fmt.Errorf("a request waits for an approval from 1s to %s", MaxApprovalTimeout)
	}
	return nil
}

package external

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// checkAddress reports why a store can't be reached at a URL.
func checkAddress(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "":
		return errors.New("it is a URL as https://HOST or https://HOST:PORT")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return errors.New("it is https://HOST or https://HOST:PORT, without a path")
	}
	return nil
}

func matches(pattern *regexp.Regexp, otherwise string) func(string) error {
	return func(value string) error {
		if !pattern.MatchString(value) {
			return errors.New(otherwise)
		}
		return nil
	}
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(values, value) {
			return errors.New("it is " + strings.Join(values, " or "))
		}
		return nil
	}
}

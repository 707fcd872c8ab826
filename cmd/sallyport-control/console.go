package main

import (
	"errors"
	"fmt"
	"net"

	"sallyport/control/admin"
	"sallyport/control/console"
)

// consoleFlags are about the web console.
type consoleFlags struct {
	Console    bool   `negatable:"" default:"true" help:"Serve the web console at /console/ of the admin API; --no-console does not."`
	ConsoleURL string `name:"console-url" placeholder:"URL" help:"Where browsers find it: https://HOST:PORT. People log in there once this is known, as it is on loopback."`
}

// consoleURL is where browsers find the console, empty where nobody said. certificate
// says that the listener has one of the operator's.
func (f *consoleFlags) consoleURL(listener net.Listener, certificate bool) (string, error) {
	switch {
	case !f.Console && f.ConsoleURL != "":
		return "", errors.New("--console-url is given with --no-console")
	case !f.Console:
		return "", nil
	case f.ConsoleURL != "":
		if _, err := console.ParseURL(f.ConsoleURL); err != nil {
			return "", fmt.Errorf("--console-url: %w", err)
		}
		return f.ConsoleURL, nil
	}
	if listener.Addr().(*net.TCPAddr).IP.IsLoopback() && !certificate {
		return "http://" + listener.Addr().String(), nil
	}
	return "", nil
}

// codesTo is where the console at a URL, if there is one, takes the codes of logins for
// credentials.
func codesTo(url string) (string, error) {
	if url == "" {
		return "", nil
	}
	return console.CodesTo(url)
}

// around puts the console around the admin API.
func (f *consoleFlags) around(api *admin.Server, url string) (err error) {
	if f.Console {
		api.Front, err = console.New(api, url)
	}
	return err
}

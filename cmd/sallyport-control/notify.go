package main

import (
	"log/slog"
	"net"
)

// notifyReady tells systemd, if it started us with Type=notify, that we serve
// (sd_notify(3)).
func notifyReady(getenv func(string) string, log *slog.Logger) {
	socket := getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", socket)
	if err == nil {
		defer conn.Close()
		_, err = conn.Write([]byte("READY=1"))
	}
	if err != nil {
		log.Warn("systemd could not be told that the control plane is ready", "error", err)
	}
}

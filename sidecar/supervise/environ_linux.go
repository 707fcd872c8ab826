package supervise

import (
	"slices"
	"strings"
)

// agentEnviron is the environment of an agent: what init was given, without
// what is ours or leads out, and with the variables by which programs find
// their certificates. Those beat a program's own options, so all are set.
func agentEnviron(environ []string) []string {
	set := trustEnviron(lookup(environ, "JAVA_TOOL_OPTIONS"))
	inherited := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return !kept(name) || lookup(set, name) != ""
	})
	return append(inherited, set...)
}

// trustEnviron is the variables that name the sandbox's certificates.
func trustEnviron(javaOptions string) []string {
	var set []string
	for _, name := range []string{
		"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE",
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "CARGO_HTTP_CAINFO", "NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS",
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "BUNDLE_SSL_CA_CERT", "PERL_LWP_SSL_CA_FILE",
	} {
		set = append(set, name+"="+bundleFile)
	}
	java := javaOptions + " -Djavax.net.ssl.trustStore=" + javaFile + " -Djavax.net.ssl.trustStoreType=PKCS12"
	return append(set,
		"NODE_EXTRA_CA_CERTS="+caFile, // added to the runtime's own, as is Deno's
		"DENO_CERT="+caFile,
		"DENO_TLS_CA_STORE=system,mozilla",
		"JAVA_TOOL_OPTIONS="+strings.TrimSpace(java),
	)
}

// ProxyVariable tells programs that want to be told of a proxy where there is one.
// They need not: what they send is intercepted.
const ProxyVariable = "SALLYPORT_PROXY"

// kept reports whether an inherited variable may reach the agent.
func kept(name string) bool {
	switch strings.ToUpper(name) {
	case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY": // of the outer network
		return false
	case "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "XDG_RUNTIME_DIR",
		"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DOCKER_HOST", "CONTAINER_HOST", "NOTIFY_SOCKET",
		"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES": // sockets of the machine, which are covered
		return false
	case "SSL_CERT_DIR", "GIT_SSL_CAPATH":
		return false
	}
	return name == ProxyVariable || !strings.HasPrefix(name, "SALLYPORT_")
}

// lookup gives a variable's last value, as exec's callee would see it.
func lookup(environ []string, name string) string {
	for _, pair := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

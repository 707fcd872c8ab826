vcl 4.1;
backend recorder {
	.host = "127.0.0.1";
	.port = "{{.Recorder}}";
}
sub vcl_recv {
	return (pass);
}

package forward

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/proto"
)

const (
	maxHeaders = 64 << 10 // bytes of a file of headers
	maxText    = 16 << 10 // bytes of a record, as JSON
)

// otlp sends OTLP logs by HTTP with protobuf (OTLP 1.x, OTLP/HTTP). It is not
// OpenTelemetry's SDK, whose processor drops what its queue has no room for.
type otlp struct {
	url     string
	headers string // file
	from    Sender
	client  *http.Client
}

func newOTLP(t Target, from Sender) *otlp {
	_, scheme, _ := strings.Cut(t.kind, "+")
	return &otlp{
		url: scheme + "://" + t.address + t.path, headers: t.headers, from: from,
		client: &http.Client{
			Transport:     &http.Transport{TLSClientConfig: t.tls, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Send implements Receiver.
func (o *otlp) Send(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	request, err := o.request(ctx, events)
	if err != nil {
		return err
	}
	response, err := o.client.Do(request)
	clean := without(request.Header)
	if err != nil {
		err = errors.Unwrap(err) // of the URL, which we say
		if text := cut(clean(err.Error())); text != err.Error() {
			err = errors.New(text)
		}
		return fmt.Errorf("send to %s: %w%s", o.url, err, distrusted(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", o.url, err)
	}
	return (&answer{response, body, clean}).verdict(o.url)
}

// Unsure implements Receiver: what was accepted, was.
func (o *otlp) Unsure() map[string]int64 { return nil }

// Close implements Receiver.
func (o *otlp) Close() { o.client.CloseIdleConnections() }

func (o *otlp) request(ctx context.Context, events []Event) (*http.Request, error) {
	records := make([]*logs.LogRecord, len(events))
	for i, e := range events {
		r, err := logRecord(e)
		if err != nil {
			return nil, err
		}
		records[i] = r
	}
	message, err := proto.Marshal(&collector.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource:  &resource.Resource{Attributes: []*common.KeyValue{text("service.name", "sallyport-control"), text("service.version", o.from.Version), text("host.name", o.from.Hostname)}},
		ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: "sallyport.audit", Version: o.from.Version}, LogRecords: records}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("encode events: %w", err)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(message); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, &packed)
	if err != nil {
		return nil, err
	}
	if o.headers != "" { // read each time, so that a token can be replaced
		if request.Header, err = readHeaders(o.headers); err != nil {
			return nil, err
		}
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("Content-Encoding", "gzip")
	request.Header.Set("User-Agent", "sallyport-control/"+o.from.Version)
	return request, nil
}

// logRecord has an attribute sallyport.NAME for each field of an exported event; its
// body is the whole as JSON.
func logRecord(e Event) (*logs.LogRecord, error) {
	line, err := recordOf(e).line(maxText)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	fields := make(map[string]any)
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	r := &logs.LogRecord{
		TimeUnixNano: uint64(e.Time.UnixNano()), ObservedTimeUnixNano: uint64(e.RecordedAt.UnixNano()),
		SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_INFO, SeverityText: "INFO",
		EventName: "sallyport.audit." + e.Kind, Body: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: string(line)}},
	}
	if e.warns() {
		r.SeverityNumber, r.SeverityText = logs.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch v := fields[name].(type) {
		case string:
			r.Attributes = append(r.Attributes, text("sallyport."+name, v))
		case bool:
			r.Attributes = append(r.Attributes, &common.KeyValue{Key: "sallyport." + name, Value: &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v}}})
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				return nil, fmt.Errorf("read an event: %w", err)
			}
			r.Attributes = append(r.Attributes, &common.KeyValue{Key: "sallyport." + name, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}})
		}
	}
	return r, nil
}

func text(name, value string) *common.KeyValue {
	return &common.KeyValue{Key: name, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// readHeaders reads a file of headers, NAME: VALUE a line. Errors never hold a value.
func readHeaders(file string) (http.Header, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxHeaders))
	if err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	headers := make(http.Header)
	for i, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("headers: line %d of %s is not NAME: VALUE", i+1, file)
		}
		headers.Add(name, value)
	}
	return headers, nil
}

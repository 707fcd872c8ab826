package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// field is a field of HTTP/2, perhaps one that begins with a colon.
type field = hpack.HeaderField

// message is a request as it is sent, whether or not it is one.
type message struct {
	text   string  // of HTTP/1
	fields []field // of HTTP/2
	body   string  // of HTTP/2
}

// speak1 sends the messages one after another and reads the answer to each. There are
// fewer answers than messages when the connection ends.
func speak1(conn net.Conn, messages []message) (replies []reply, err error) {
	conn.SetDeadline(time.Now().Add(patience))
	reader := bufio.NewReader(conn)
	for _, m := range messages {
		if _, err := io.WriteString(conn, m.text); err != nil {
			return replies, err
		}
		method, _, _ := strings.Cut(m.text, " ")
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			return replies, err
		}
		got := reply{status: response.StatusCode, reason: response.Status, header: response.Header}
		if method != http.MethodConnect || got.status != http.StatusOK {
			got.body, err = io.ReadAll(response.Body)
		}
		replies = append(replies, got)
		if err != nil || response.Close {
			return replies, err
		}
	}
	return replies, nil
}

// speak2 sends each message as a stream once the stream before it has been answered.
func speak2(conn net.Conn, messages []message) (replies []reply, err error) {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		return nil, err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i, m := range messages {
		block.Reset()
		for _, f := range m.fields {
			encoder.WriteField(f) // to memory
		}
		stream := uint32(2*i + 1)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: m.body == ""}); err != nil {
			return replies, err
		}
		if m.body != "" {
			if err := framer.WriteData(stream, true, []byte(m.body)); err != nil {
				return replies, err
			}
		}
		got, err := readStream(framer, stream)
		if err != nil {
			return replies, err
		}
		replies = append(replies, got)
	}
	return replies, nil
}

// readStream reads to the end of a stream. One that was reset has status 0.
func readStream(framer *http2.Framer, stream uint32) (got reply, err error) {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return got, err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return got, fmt.Errorf("the connection ended: %s", f.ErrCode)
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return reply{}, nil
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream {
				continue
			}
			got.status, _ = strconv.Atoi(f.PseudoValue("status"))
			got.header = http.Header{}
			for _, field := range f.RegularFields() {
				got.header.Add(field.Name, field.Value)
			}
		case *http2.DataFrame:
			if f.StreamID == stream {
				got.body = append(got.body, f.Data()...)
			}
		}
		if err != nil || frame.Header().StreamID == stream && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return got, err
		}
	}
}

// get1 is a plain request of HTTP/1.1.
func get1(host, path string) message {
	return message{text: "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"}
}

// get2 is a plain request of HTTP/2.
func get2(host, path string) message {
	return message{fields: []field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: host}, {Name: ":path", Value: path}}}
}

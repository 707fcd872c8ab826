package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
)

// load2 keeps many requests in flight on one HTTP/2 connection, which stays for later jobs.
func (c *client) load2(j job) (outcome, error) {
	transport := c.h2[j.Name]
	if transport == nil {
		protocols := new(http.Protocols)
		protocols.SetHTTP2(true)
		transport = &http.Transport{Protocols: protocols, DisableCompression: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return c.dial(j.Name, "h2")
		}}
		c.h2[j.Name] = transport
	}
	// One by itself, so that the others find the connection there.
	if _, err := get2(transport, j.Name); err != nil {
		return outcome{}, err
	}
	if j.Protocol == "h2" {
		return newTally(j).repeat(j.Want, func(int) (string, error) { return get2(transport, j.Name) })
	}
	streams := make([]*stream, j.Connections)
	for i := range streams {
		s, err := openStream(transport, j.Name)
		if err != nil {
			return outcome{}, err
		}
		streams[i] = s
	}
	result, err := newTally(j).repeat(j.Want, func(lane int) (string, error) { return streams[lane].exchange() })
	for _, s := range streams {
		err = errors.Join(err, s.end())
	}
	return result, err
}

func get2(transport *http.Transport, name string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 || !bytes.Equal(body, answer) {
		return "", fmt.Errorf("%s %s: %s", response.Proto, response.Status, body)
	}
	return response.Header.Get(seenHeader), nil
}

// stream is one that carries messages both ways, as gRPC's do.
type stream struct {
	response      *http.Response
	request       *io.PipeWriter
	message, back []byte
}

func openStream(transport *http.Transport, name string) (*stream, error) {
	body, writer := io.Pipe()
	request, err := http.NewRequest(http.MethodPost, "https://"+name+"/echo", body)
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	s := &stream{request: writer, message: slices.Concat(make([]byte, 5), answer), back: make([]byte, 5+len(answer))}
	binary.BigEndian.PutUint32(s.message[1:], uint32(len(answer)))
	// The origin answers with the first message, so that one is sent meanwhile.
	sent := make(chan error, 1)
	go func() { _, err := writer.Write(s.message); sent <- err }()
	if s.response, err = transport.RoundTrip(request); err != nil {
		writer.CloseWithError(err)
		<-sent
		return nil, err
	}
	if err := <-sent; err != nil {
		return nil, err
	}
	if s.response.StatusCode != http.StatusOK {
		return nil, errors.New(s.response.Status)
	}
	return s, s.receive()
}

// exchange sends a message and waits for it to come back.
func (s *stream) exchange() (string, error) {
	if _, err := s.request.Write(s.message); err != nil {
		return "", err
	}
	return s.response.Header.Get(seenHeader), s.receive()
}

func (s *stream) receive() error {
	if _, err := io.ReadFull(s.response.Body, s.back); err != nil {
		return err
	}
	if !bytes.Equal(s.back, s.message) {
		return errors.New("another message came back")
	}
	return nil
}

func (s *stream) end() error {
	s.request.Close()
	defer s.response.Body.Close()
	if _, err := io.Copy(io.Discard, s.response.Body); err != nil {
		return err
	}
	if status := s.response.Trailer.Get("Grpc-Status"); status != "0" {
		return fmt.Errorf("the stream ended with grpc-status %q", status)
	}
	return nil
}

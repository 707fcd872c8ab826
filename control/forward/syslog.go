package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"
)

const (
	// maxMessage is what receivers take without cutting it, in bytes (RFC 5425 section
	// 4.3.1). What is cut off could be taken for a message of its own.
	maxMessage = 8000
	maxHeader  = 512 // of that
	// unsureFor is how long what TCP has delivered may lie unread before a receiver that
	// dies is taken to have had it.
	unsureFor = 30 * time.Second

	facility = 13 // log audit
	warning  = 4
	info     = 6
)

// syslog sends RFC 5424 by TCP, or by TLS (RFC 5425), each message with its length before it
// (RFC 6587 section 3.4.1). The protocol has no acknowledgements: what the receiver's
// TCP has acknowledged counts as accepted, and is sent again if the connection is lost soon after.
type syslog struct {
	address string
	tls     *tls.Config // nil: none
	from    Sender

	conn   net.Conn
	lost   chan struct{} // closed when the receiver has ended the connection
	reason error         // then
	marks  []mark
}

// mark is a batch that was sent: of whom, and after which position.
type mark struct {
	team  string
	after int64
	at    time.Time
}

// Send implements Receiver.
func (s *syslog) Send(ctx context.Context, events []Event) error {
	var frames bytes.Buffer
	for _, e := range events {
		message, err := s.message(e)
		if err != nil {
			return &refused{error: err, how: "can't be written as syslog", certain: true}
		}
		frames.WriteString(strconv.Itoa(len(message)))
		frames.WriteByte(' ')
		frames.WriteString(message)
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if len(events) == 0 {
		return nil
	}
	s.marks = append(s.marks, mark{events[0].TeamID, events[0].ID - 1, time.Now()})
	if err := s.write(ctx, frames.Bytes()); err != nil {
		s.hangUp()
		return fmt.Errorf("send to %s: %w", s.address, err)
	}
	s.marks[len(s.marks)-1].at = time.Now()
	for len(s.marks) > 0 && time.Since(s.marks[0].at) > unsureFor {
		s.marks = s.marks[1:]
	}
	return nil
}

// Unsure implements Receiver.
func (s *syslog) Unsure() map[string]int64 {
	if s.conn != nil {
		return nil
	}
	unsure := make(map[string]int64)
	for _, m := range s.marks {
		if first, found := unsure[m.team]; time.Since(m.at) <= unsureFor && (!found || m.after < first) {
			unsure[m.team] = m.after
		}
	}
	s.marks = nil
	return unsure
}

// Close implements Receiver.
func (s *syslog) Close() { s.hangUp() }

// message is an event as syslog has it: a header of ours, and a line of JSON.
func (s *syslog) message(e Event) (string, error) {
	line, err := recordOf(e).line(maxMessage - maxHeader)
	if err != nil {
		return "", err
	}
	severity := uint8(info)
	if e.warns() {
		severity = warning
	}
	m := new(rfc5424.SyslogMessage)
	m.SetPriority(facility*8 + severity).SetVersion(1).SetTimestamp(e.RecordedAt.UTC().Format("2006-01-02T15:04:05.000000Z07:00")).
		SetHostname(s.from.Hostname).SetAppname("sallyport").SetMsgID(e.Kind).SetMessage(string(line))
	text, err := m.String()
	if err != nil || m.Message == nil || len(text) > maxMessage {
		return "", fmt.Errorf("event %d of team %q can't be written as syslog: %w", e.ID, e.Team, errors.Join(err, errors.New("its header is too long or its message is empty")))
	}
	return text, nil
}

// connect makes a connection unless there is one. It fails once for one that was lost.
func (s *syslog) connect(ctx context.Context) error {
	if s.conn != nil {
		select {
		case <-s.lost:
			s.hangUp()
			return fmt.Errorf("%s has ended the connection: %w", s.address, s.reason)
		default:
			return nil
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", s.address, err)
	}
	if s.tls != nil {
		secured := tls.Client(conn, s.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return fmt.Errorf("connect to %s: %w%s", s.address, err, distrusted(err))
		}
		conn = secured
	}
	s.conn, s.lost = conn, make(chan struct{})
	lost := s.lost
	go func() { // ends with the connection; hangUp waits for it
		defer close(lost)
		_, s.reason = io.Copy(io.Discard, conn)
		if s.reason == nil {
			s.reason = io.EOF
		}
	}()
	return nil
}

func (s *syslog) hangUp() {
	if s.conn != nil {
		s.conn.Close()
		<-s.lost
		s.conn = nil
	}
}

// write returns when the receiver's TCP has acknowledged all of it.
func (s *syslog) write(ctx context.Context, frames []byte) error {
	if end, ok := ctx.Deadline(); ok {
		if err := s.conn.SetWriteDeadline(end); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := s.conn.Write(frames); err != nil {
		return err
	}
	tcp := s.conn
	if secured, ok := tcp.(*tls.Conn); ok {
		tcp = secured.NetConn()
	}
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left, err := unacknowledged(tcp)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-s.lost:
			return s.reason
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

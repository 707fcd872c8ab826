// Package cutter ends connections to a database in the midst of what is done, for tests.
package cutter

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
)

// Cutter stands between a store and its database, and can end every connection at
// the nth statement: before the database has it, or after it was done, before the
// store hears of it.
type Cutter struct {
	server string // the database's socket
	URL    string // of the database, by way of the cutter

	mu     sync.Mutex
	count  int // statements so far
	at     int // 0: never
	after  bool
	broken bool
	conns  map[net.Conn]bool
}

// New makes a Cutter before the database of a socket's URL, until the test ends.
func New(t testing.TB, databaseURL string) *Cutter {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	dir := t.TempDir()
	c := &Cutter{server: filepath.Join(query.Get("host"), ".s.PGSQL.5432"), conns: map[net.Conn]bool{}}
	query.Set("host", dir)
	query.Set("pool_max_conns", "4")
	u.RawQuery = query.Encode()
	c.URL = u.String()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.end()
		group.Wait()
	})
	return c
}

// Arm sets where to cut, 0 for nowhere, and begins to count anew.
func (c *Cutter) Arm(at int, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.after, c.count, c.broken = at, after, 0, false
}

// Seen is how many statements there were since Arm, and whether it has cut.
func (c *Cutter) Seen() (count int, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count, c.broken
}

func (c *Cutter) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
}

func (c *Cutter) serve(client net.Conn) {
	database, err := net.Dial("unix", c.server)
	if err != nil {
		client.Close()
		return
	}
	c.mu.Lock()
	c.conns[client], c.conns[database] = true, true
	c.mu.Unlock()
	var group sync.WaitGroup
	mute := make(chan struct{})  // closed when no answer may pass any more
	ended := make(chan struct{}) // closed when the database has nothing more to say
	group.Go(func() {
		defer close(ended)
		buffer := make([]byte, 64<<10)
		for {
			n, err := database.Read(buffer)
			select {
			case <-mute:
				if err != nil {
					return
				}
				continue
			default:
			}
			if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
				client.Close()
				return
			}
		}
	})
	c.forward(client, database, mute, ended)
	database.Close()
	group.Wait()
	client.Close()
	c.mu.Lock()
	delete(c.conns, client)
	delete(c.conns, database)
	c.mu.Unlock()
}

// forward passes the client's messages on (PostgreSQL manual, Frontend/Backend
// Protocol): the first has no kind, and each Query, Execute and CopyDone is a statement.
func (c *Cutter) forward(client, database net.Conn, mute, ended chan struct{}) {
	for first := true; ; first = false {
		head := make([]byte, 5)
		if first {
			head = head[:4]
		}
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[len(head)-4:])
		message := make([]byte, len(head)+int(size)-4)
		copy(message, head)
		if _, err := io.ReadFull(client, message[len(head):]); err != nil {
			return
		}
		statement := !first && (head[0] == 'Q' || head[0] == 'E' || head[0] == 'c')
		before, after := c.next(statement)
		if before {
			c.end()
			return
		}
		if after {
			close(mute)
			finish(database, message)
			<-ended
			c.end() // only now the store hears of it: its next connections must not be among these
			return
		}
		if _, err := database.Write(message); err != nil {
			return
		}
	}
}

// finish sends a statement, with the Sync that it may lack, and says goodbye: the
// database ends the connection when it was done.
func finish(database net.Conn, message []byte) {
	if message[0] == 'E' {
		message = append(message, 'S', 0, 0, 0, 4)
	}
	database.Write(append(message, 'X', 0, 0, 0, 4))
}

func (c *Cutter) next(statement bool) (before, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return true, false
	}
	if !statement {
		return false, false
	}
	c.count++
	if c.at == 0 || c.count < c.at {
		return false, false
	}
	c.broken = true
	return !c.after, c.after
}

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
)

// The hosts of the fakes that play a vendor's API.
const (
	NotionHost = "api.notion.com"
	OpenAIHost = "api.openai.com"
	STSHost    = "sts.us-east-1.amazonaws.com"
	S3Host     = "sallyport-e2e.s3.us-east-1.amazonaws.com"
)

// demand is an API that a request enters only with the exact credential, once.
func demand(header, value string, refusal any, api http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if got := r.Header.Values(header); !slices.Equal(got, []string{value}) {
			answer(rw, http.StatusUnauthorized, refusal)
			return
		}
		api.ServeHTTP(rw, r)
	})
}

// FakeNotion answers in the shape of Notion's API who the integration is.
func FakeNotion(key string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/users/me", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusOK, map[string]any{"object": "user", "id": "e2e", "type": "bot", "name": "Sallyport", "bot": map[string]any{}})
	})
	return demand("Authorization", "Bearer "+key, map[string]any{
		"object": "error", "status": 401, "code": "unauthorized", "message": "API token is invalid.",
	}, mux)
}

// FakeOpenAI answers in the shape of OpenAI's API. A streamed answer has a word of
// words an event; each waits for its turn.
func FakeOpenAI(key string, words []string, turn <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{"id": "e2e", "object": "model"}}})
	})
	mux.HandleFunc("POST /v1/chat/completions", func(rw http.ResponseWriter, r *http.Request) {
		stream := newEventStream(rw, r, turn)
		for _, word := range words {
			stream.wait()
			stream.send("", map[string]any{
				"id": "chatcmpl-e2e", "object": "chat.completion.chunk", "created": 1, "model": "e2e",
				"choices": []any{map[string]any{"index": 0, "delta": map[string]any{"content": word}, "finish_reason": nil}},
			})
		}
		stream.write("data: [DONE]\n\n")
	})
	return demand("Authorization", "Bearer "+key, map[string]any{
		"error": map[string]any{"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"},
	}, mux)
}

// FakeAnthropic answers in the shape of Anthropic's API, streamed as FakeOpenAI does.
func FakeAnthropic(key string, words []string, turn <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusOK, map[string]any{"data": []any{map[string]any{"id": "e2e", "type": "model"}}, "has_more": false})
	})
	mux.HandleFunc("POST /v1/messages", func(rw http.ResponseWriter, r *http.Request) {
		stream := newEventStream(rw, r, turn)
		stream.send("message_start", map[string]any{"type": "message_start", "message": map[string]any{
			"id": "msg_e2e", "type": "message", "role": "assistant", "model": "e2e", "content": []any{},
			"stop_reason": nil, "stop_sequence": nil, "usage": map[string]int{"input_tokens": 1, "output_tokens": 1},
		}})
		stream.send("content_block_start", map[string]any{
			"type": "content_block_start", "index": 0, "content_block": map[string]any{"type": "text", "text": ""},
		})
		for _, word := range words {
			stream.wait()
			stream.send("content_block_delta", map[string]any{
				"type": "content_block_delta", "index": 0, "delta": map[string]any{"type": "text_delta", "text": word},
			})
		}
		stream.send("content_block_stop", map[string]any{"type": "content_block_stop", "index": 0})
		stream.send("message_delta", map[string]any{
			"type": "message_delta", "delta": map[string]any{"stop_reason": "end_turn", "stop_sequence": nil}, "usage": map[string]int{"output_tokens": 3},
		})
		stream.send("message_stop", map[string]any{"type": "message_stop"})
	})
	return demand("X-Api-Key", key, map[string]any{
		"type": "error", "error": map[string]any{"type": "authentication_error", "message": "invalid x-api-key"},
	}, mux)
}

// eventStream is a response of server-sent events.
type eventStream struct {
	rw   http.ResponseWriter
	r    *http.Request
	turn <-chan struct{}
}

func newEventStream(rw http.ResponseWriter, r *http.Request, turn <-chan struct{}) *eventStream {
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-cache")
	return &eventStream{rw, r, turn}
}

// wait waits until the test gives the next turn.
func (s *eventStream) wait() {
	select {
	case <-s.turn:
	case <-s.r.Context().Done():
	}
}

func (s *eventStream) send(event string, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	if event != "" {
		s.write("event: " + event + "\n")
	}
	s.write(fmt.Sprintf("data: %s\n\n", text))
}

// write sends at once. The client may have gone.
func (s *eventStream) write(text string) {
	_, _ = s.rw.Write([]byte(text))
	_ = http.NewResponseController(s.rw).Flush()
}

// StartMCP starts a server of the Model Context Protocol at host, made with the
// official SDK. It demands key as a bearer token and prints a line a request.
func (w *World) StartMCP(host, key string) *Program {
	w.t.Helper()
	port := w.FreePort()
	w.Origin(host, false, fmt.Sprintf("127.0.0.1:%d", port))
	certificate, private := w.Certificate(host)
	return w.startListening("mcp-server", port, "node", w.Client("mcp-server.mjs"), fmt.Sprint(port), certificate, private, key)
}

// StartMCPLogin starts an MCP server that people log in for at another host, at an
// address of its own, which it gives.
func (w *World) StartMCPLogin(mcp, login string) (server *Program, address string) {
	w.t.Helper()
	address = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)) // port 443 is free at one of so many
	w.Origin(mcp, false, address+":443")
	certificate, key := w.Certificate(mcp, login)
	server = w.start("mcp-login-server", "node", w.Client("mcp-login-server.mjs"), address, certificate, key, mcp, login)
	w.Eventually("the MCP server listens", func() bool {
		conn, err := net.Dial("tcp", address+":443")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return server, address
}

func answer(rw http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_, _ = rw.Write(text)
}

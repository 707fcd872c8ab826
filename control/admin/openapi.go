package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

func (s *Server) newAPI(mux *http.ServeMux) huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	api := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Sallyport admin API",
				Version:     "1",
				Description: "Teams, vaults, credentials, agents, pins, sandboxes, tokens and audit. Secrets are write-only: no answer holds one.",
			},
			Components: &huma.Components{
				Schemas:         registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}},
			},
			Servers:  []*huma.Server{{URL: "/"}},
			Security: []map[string][]string{{"token": {}}},
		},
		// No paths for documents and pages of huma's own: ours is made once, and
		// a page would load scripts from elsewhere.
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{withoutValues},
	})
	api.UseMiddleware(s.authorize, s.once)
	return api
}

// document is the OpenAPI document, with our problems in the place of huma's.
func document(api huma.API) ([]byte, error) {
	schemas := api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	doc, err := json.Marshal(api.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return doc, nil
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	w.Write(s.openAPI)
}

// answer is the body of a response.
type answer[T any] struct{ Body T }

// one makes an answer of one thing.
func one[T any](thing T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{thing}, nil
}

// route registers a handler that reads no body.
func route[I, O any](s *Server, api huma.API, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	if op.Method == http.MethodPost && op.DefaultStatus == 0 {
		op.DefaultStatus = http.StatusCreated
	}
	if op.Method == http.MethodPost && !openToAll[op.OperationID] {
		documentOnce(&op)
	}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem](), true, "Problem")
	wrong := &huma.Response{
		Description: "What was wrong (RFC 9457)",
		Content:     map[string]*huma.MediaType{problemType: {Schema: schema}},
	}
	op.Responses = map[string]*huma.Response{"4XX": wrong, "default": wrong}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		if a, ok := any(out).(interface{ finish(string) }); ok {
			a.finish(op.OperationID)
		}
		return out, nil
	})
}

// routeBody registers a handler that reads a body of type B. It is read here and
// not by huma, which would quote it in its errors and keep it in a pool; huma
// must not know of it until the route is made, and then documents it.
func routeBody[I, B, O any](s *Server, api huma.API, op huma.Operation, handler func(context.Context, *I, *B) (*O, error)) {
	route(s, api, op, func(ctx context.Context, in *I) (*O, error) {
		body, err := decode[B](ctx)
		if err != nil {
			return nil, err
		}
		return handler(ctx, in, body)
	})
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[B](), true, reflect.TypeFor[B]().Name())
	documented := api.OpenAPI().Paths[op.Path].Post
	switch op.Method {
	case http.MethodPut:
		documented = api.OpenAPI().Paths[op.Path].Put
	case http.MethodPatch:
		documented = api.OpenAPI().Paths[op.Path].Patch
	}
	documented.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
}

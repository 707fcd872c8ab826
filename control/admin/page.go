package admin

import (
	"encoding/base64"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control/store"
)

// PageQuery asks for a part of a list.
type PageQuery struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most"`
	After string `query:"after" maxLength:"512" doc:"The next of the page before"`

	from string // what After stands for
}

func (q PageQuery) page() store.Page { return store.Page{Limit: q.Limit, After: q.from} }

// Resolve reads the cursor. huma calls it before the handler.
func (q *PageQuery) Resolve(ctx huma.Context) []error {
	if q.After == "" {
		return nil
	}
	plain, err := base64.RawURLEncoding.Strict().DecodeString(q.After)
	list, from, found := strings.Cut(string(plain), cursorEnd)
	if err != nil || !found || list != ctx.Operation().OperationID || from == "" {
		return []error{&huma.ErrorDetail{Location: "query.after", Message: `it is no cursor of this list: give the value of "next" as it is, or none for the first page`}}
	}
	q.from = from
	return nil
}

// cursorEnd parts a cursor's list from its place there.
const cursorEnd = "\n"

// cursor is a place in the list of an operation: the last thing of a page, which the
// next one begins after, whatever came or went in between.
func cursor(operation, from string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(operation + cursorEnd + from))
}

// list is one page of many things.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Give it as after to get the next page; absent on the last one."`
}

// items makes a page; one without items is [], never null.
func items[T any](all []T, next string, err error) (*answer[list[T]], error) {
	if err != nil {
		return nil, err
	}
	if all == nil {
		all = []T{}
	}
	return &answer[list[T]]{list[T]{Items: all, Next: next}}, nil
}

// seal makes the place where the page ends a cursor of the operation.
func (l *list[T]) seal(operation string) {
	if l.Next != "" {
		l.Next = cursor(operation, l.Next)
	}
}

// finish does what an answer still needs once its handler has made it.
func (a *answer[T]) finish(operation string) {
	if l, ok := any(&a.Body).(interface{ seal(string) }); ok {
		l.seal(operation)
	}
}

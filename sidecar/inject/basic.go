package inject

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"sallyport/control/api"
)

// renderBasic sets Authorization as RFC 7617 says.
func renderBasic(r *http.Request, m api.Material) (func(), error) {
	if strings.Contains(m.Username, ":") {
		return nil, fmt.Errorf("%w: the username holds a colon, which Basic authentication can't carry", ErrMaterial)
	}
	value := basicValue(m)
	return func() { r.Header.Set("Authorization", value) }, nil
}

func basicValue(m api.Material) string {
	pair := append([]byte(m.Username+":"), m.Token...)
	defer clear(pair)
	return "Basic " + base64.StdEncoding.EncodeToString(pair)
}

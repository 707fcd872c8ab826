// Command oauthclient is a client of OAuth 2.0's client credentials grant, by
// golang.org/x/oauth2: oauthclient TOKEN-URL URL ID SECRET prints the token that it
// got, the status of a GET with it, then the body.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	config := clientcredentials.Config{TokenURL: args[0], ClientID: args[2], ClientSecret: args[3], AuthStyle: oauth2.AuthStyleInHeader}
	source := config.TokenSource(context.Background())
	token, err := source.Token()
	if err != nil {
		return err
	}
	fmt.Println(token.AccessToken)
	response, err := oauth2.NewClient(context.Background(), oauth2.StaticTokenSource(token)).Get(args[1])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Println(response.StatusCode)
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

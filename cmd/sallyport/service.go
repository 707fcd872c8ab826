package main

import (
	"context"
	"strings"

	"sallyport/control/registry"
)

type serviceCmd struct {
	List serviceListCmd `cmd:"" help:"List the services that --service knows."`
}

type serviceListCmd struct{}

func (cmd *serviceListCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	services, err := api.Services(ctx)
	if err != nil {
		return err
	}
	return printList(c, services, "NAME TITLE HOSTS AUTH", func(s registry.Service) []string {
		return []string{s.Name, s.Title, strings.Join(s.Hosts, ","), string(s.Auth)}
	})
}

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// said is what an agent says of its requests since it was last asked.
type said struct {
	OK     int
	Failed []string // why, the first few
}

// report asks the agent.
func (s *sandbox) report() (said, error) {
	var answer said
	if _, err := fmt.Fprintln(s.process.Input); err != nil {
		return answer, err
	}
	if !s.lines.Scan() {
		return answer, errors.Join(errors.New("the agent has ended"), s.lines.Err())
	}
	return answer, json.Unmarshal(s.lines.Bytes(), &answer)
}

// agentRole asks the host over and over, for the path that is the first line of its
// input, and answers each later line.
func agentRole() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	path := lines.Text()
	var mu sync.Mutex
	var since said
	go func() { // as long as the program
		client := &http.Client{Timeout: 10 * time.Second}
		for {
			err := ask(client, "https://"+host+"/"+path)
			mu.Lock()
			if err == nil {
				since.OK++
			} else if len(since.Failed) < 5 {
				since.Failed = append(since.Failed, err.Error())
			}
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for lines.Scan() {
		mu.Lock()
		answer := since
		since = said{}
		mu.Unlock()
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func ask(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

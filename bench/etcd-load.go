// Command etcd-load puts values into etcd in closed loops and says how long that took.
//
//	etcd-load ENDPOINT CLIENTS SECONDS VALUE_BYTES
//
// Each client puts a value under a random key (of 100,000), waits for the answer, and goes on. Clients share up to eight
// connections, as in etcd's own benchmark tool. Prints: puts per second, then the median and the 99th percentile in ms.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const connectionsMax = 8

func main() {
	if len(os.Args) != 5 {
		log.Fatal("etcd-load ENDPOINT CLIENTS SECONDS VALUE_BYTES")
	}
	endpoint, clients, seconds, bytes := os.Args[1], number(2), number(3), number(4)
	var connections []*clientv3.Client
	for len(connections) < clients && len(connections) < connectionsMax {
		config := clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second}
		connection, err := clientv3.New(config)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := connection.Put(context.Background(), "warm-up", "x"); err != nil {
			log.Fatal(err)
		}
		connections = append(connections, connection)
	}
	latencies := make([][]time.Duration, clients)
	began := time.Now()
	until := began.Add(time.Duration(seconds) * time.Second)
	var running sync.WaitGroup
	for client := 0; client < clients; client++ {
		running.Add(1)
		go func(client int) {
			defer running.Done()
			latencies[client] = putUntil(connections[client%len(connections)], until, bytes)
		}(client)
	}
	running.Wait()
	elapsed := time.Since(began)
	var all []time.Duration
	for _, each := range latencies {
		all = append(all, each...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	millis := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	fmt.Printf("%.0f %.3f %.3f\n", float64(len(all))/elapsed.Seconds(), millis(all[len(all)/2]), millis(all[len(all)*99/100]))
}

func putUntil(connection *clientv3.Client, until time.Time, bytes int) []time.Duration {
	var latencies []time.Duration
	value := strings.Repeat("v", bytes)
	for time.Now().Before(until) {
		key := fmt.Sprintf("key-%05d", rand.Intn(100_000))
		began := time.Now()
		if _, err := connection.Put(context.Background(), key, value); err != nil {
			log.Fatal(err)
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies
}

func number(index int) int {
	value, err := strconv.Atoi(os.Args[index])
	if err != nil {
		log.Fatal(err)
	}
	return value
}

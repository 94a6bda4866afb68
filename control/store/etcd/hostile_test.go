package etcd

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// hostile is an etcd that answers with what nobody asked for.
type hostile struct {
	clientv3.KV
	clientv3.Watcher
	keys []string
	more bool
}

func (h *hostile) Get(context.Context, string, ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	r := &clientv3.GetResponse{Header: &etcdserverpb.ResponseHeader{Revision: 1}, More: h.more}
	for _, k := range h.keys {
		r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte(k), ModRevision: 1})
	}
	return r, nil
}

func (h *hostile) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan {
	ch := make(chan clientv3.WatchResponse, 2)
	for _, k := range h.keys {
		ch <- clientv3.WatchResponse{Events: []*clientv3.Event{{Kv: &mvccpb.KeyValue{Key: []byte(k)}}}}
	}
	return ch
}

// An etcd that is not ours does not bring a server down, nor keep it busy for ever.
func TestHostile(t *testing.T) {
	for what, h := range map[string]*hostile{
		"a key without the prefix": {keys: []string{"/e"}},
		"of another level":         {keys: []string{"/eesp/user/head"}},
		"no key":                   {keys: []string{""}},
		"more, and none":           {more: true},
		"the same page again":      {keys: []string{"/eesp/zone/head"}, more: true},
	} {
		s := &Store{c: &clientv3.Client{KV: h, Watcher: h}, prefix: "/eesp/"}
		if l, _, err := s.List(t.Context(), "zone/"); err == nil {
			t.Errorf("%s: %v", what, l)
		}
		if h.more {
			continue
		}
		select {
		case l, open := <-s.Watch(t.Context(), "zone/", 0):
			if open {
				t.Errorf("%s, watched: %v", what, l)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: the watch does not end", what)
		}
	}
}

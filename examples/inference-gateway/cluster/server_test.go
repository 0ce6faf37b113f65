package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const token = "the-tests-own"

// server is an API server with nothing in it: no nodes, no controllers.
type server struct {
	t      *testing.T
	dir    string
	url    string
	ca     []byte
	client *http.Client
}

// newServer starts etcd and an API server on loopback and waits until it serves.
func newServer(t *testing.T) *server {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("there is no etcd here (etcd-server, as Debian calls it)")
	}
	s := &server{t: t, dir: t.TempDir()}
	apiserver := s.build(".", "./apiserver", "kube-apiserver")
	s.keys()
	etcd, peer, port := freePort(t), freePort(t), freePort(t)
	at := "http://127.0.0.1:"
	s.run(nil, "etcd", "etcd", "--data-dir="+s.path("etcd"), "--listen-client-urls="+at+etcd, "--advertise-client-urls="+at+etcd,
		"--listen-peer-urls="+at+peer, "--initial-advertise-peer-urls="+at+peer, "--initial-cluster=default="+at+peer)
	s.write("tokens", []byte(token+",admin,1,system:masters\n"))
	s.run(nil, "kube-apiserver", apiserver, "--etcd-servers="+at+etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port,
		"--tls-cert-file="+s.path("server.crt"), "--tls-private-key-file="+s.path("server.key"), "--cert-dir="+s.path("certs"),
		"--token-auth-file="+s.path("tokens"), "--authorization-mode=RBAC", "--service-account-issuer=https://127.0.0.1",
		"--service-account-key-file="+s.path("sa.key"), "--service-account-signing-key-file="+s.path("sa.key"),
		"--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount")
	s.url = "https://127.0.0.1:" + port
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca)
	s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	s.until("the API server serves", 3*time.Minute, func() bool { return s.call("GET", "/readyz", "", nil, nil) == nil })
	s.write("kubeconfig", fmt.Appendf(nil, "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {server: %q, certificate-authority-data: %s}\n"+
		"users:\n- name: u\n  user: {token: %s}\ncontexts:\n- name: c\n  context: {cluster: c, user: u}\n", s.url, base64.StdEncoding.EncodeToString(s.ca), token))
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// build builds a command of the module in a folder and returns where it lies: among what
// the user's programs cache, so that it is linked once.
func (s *server) build(module, pkg, name string) string {
	s.t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(dir, "moelb-cluster", name)
	from := time.Now()
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	s.t.Logf("%s built in %.0f s", name, time.Since(from).Seconds())
	return path
}

// run starts a program that is killed when the test ends, and tells what it said last
// where the test has failed.
func (s *server) run(env []string, name, program string, args ...string) *exec.Cmd {
	s.t.Helper()
	log, err := os.Create(s.path(name + ".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = s.dir, log, log, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if data, err := os.ReadFile(log.Name()); err == nil && s.t.Failed() {
			s.t.Logf("%s said last:\n%s", name, data[max(0, len(data)-3000):])
		}
	})
	return cmd
}

// until waits for something to be so.
func (s *server) until(what string, most time.Duration, so func() bool) {
	s.t.Helper()
	for end := time.Now().Add(most); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not so after %v: %s", most, what)
		}
	}
}

// call has the server do something with an object: body is what is sent, bytes as they
// are and all else as JSON; into is filled with what comes back.
func (s *server) call(method, path, kind string, body, into any) error {
	data, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	data, err = io.ReadAll(w.Body)
	if err == nil && w.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, w.Status, data)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(data, into)
	}
	return err
}

// must is call for what may not fail.
func (s *server) must(method, path, kind string, body any) {
	s.t.Helper()
	if err := s.call(method, path, kind, body, nil); err != nil {
		s.t.Fatal(err)
	}
}

// resources makes the extension's own kinds of object known, as they lie in its module.
func (s *server) resources() {
	s.t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api-inference-extension")
	list.Dir = ".."
	dir, err := list.Output()
	if err != nil {
		s.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "config/crd/bases/*.yaml"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("no resources in %s: %v", dir, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		s.must("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/yaml", data)
	}
	for _, path := range []string{"k8s.io/v1/inferencepools", "x-k8s.io/v1alpha2/inferenceobjectives", "x-k8s.io/v1alpha2/inferencemodelrewrites"} {
		s.until(path+" is served", time.Minute, func() bool { return s.call("GET", "/apis/inference.networking."+path, "", nil, nil) == nil })
	}
	s.t.Logf("%d kinds of object taken", len(files))
}

// keys makes a certificate for loopback by an authority of its own, and the key that
// service accounts' tokens are signed with.
func (s *server) keys() {
	s.t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	account, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &signer.PublicKey, signer)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := x509.MarshalECPrivateKey(signer)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.write("server.crt", s.ca)
	s.write("server.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
	s.write("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(account)}))
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

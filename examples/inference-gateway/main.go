// Command inference-gateway is the endpoint picker of the Kubernetes Gateway API
// Inference Extension with moelb's plugins in it.
package main

import (
	"os"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/gateway-api-inference-extension/cmd/epp/runner"

	"github.com/moelb/moelb/examples/inference-gateway/plugins"
)

func main() {
	plugins.Register()
	if err := runner.NewRunner().Run(ctrl.SetupSignalHandler()); err != nil {
		os.Exit(1)
	}
}

from actions.gateway.envoy import EnvoyGateway

ACTIONS = ()

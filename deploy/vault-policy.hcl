# What Firedoor may do in Vault or OpenBao: rotate the named secrets, and look itself up.
# One block for each `path` under `credentials` in firedoor.yaml, below its kv_mount ("secret").

# Read the current version to compare, write the next one on top of it (check-and-set).
path "secret/data/orders-service/aws" {
  capabilities = ["create", "read", "update"]
}

path "secret/metadata/orders-service/aws" {
  capabilities = ["read", "update"]
}

# `firedoor doctor`: how long the token lives.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# Before a rotation: may the new key be stored at all?
path "sys/capabilities-self" {
  capabilities = ["update"]
}

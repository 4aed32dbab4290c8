variable "project" {
  description = "ID of the project for the service accounts."
  type        = string
}

variable "bucket_name" {
  description = "Name of the bucket, which exists already and has uniform access."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must be a bucket's name, without gs://."
  }
}

variable "account_prefix" {
  description = "Beginning of the names of the service accounts, such as pgstow in pgstow-writer. Google allows 30 characters for a whole name."
  type        = string
  default     = "pgstow"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,19}[a-z0-9]$", var.account_prefix))
    error_message = "account_prefix must have 2 to 21 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "prefix" {
  description = "Folder in the bucket for all of pgstow's objects. Don't begin or end it with a slash."
  type        = string
  default     = "postgres"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.prefix))
    error_message = "prefix must be folder names of letters, digits, “_”, “.” and “-”, with single slashes between them and none at the ends."
  }
}

variable "used_by" {
  description = <<-EOT
    The service accounts to make, and who may act as each account. The names are writer, restorer, auditor and pruner. Leave out the
    accounts that you don't need.
    - principals: IAM members who may create access tokens of the account, such as "group:dba@example.com" or "serviceAccount:…"
    - workload_identities: workloads that may act as the account; give members of a Workload Identity pool, as "principal://…" or
      "principalSet://…" (GitHub, AWS …), or service accounts of GKE, as "serviceAccount:PROJECT.svc.id.goog[NAMESPACE/NAME]"
    An account may have no principals and no workload_identities, as in pruner = {}. Then attach the account to a machine or a Cloud Run
    job.
  EOT
  type = map(object({
    principals          = optional(list(string), [])
    workload_identities = optional(list(string), [])
  }))

  validation {
    condition     = length(setsubtract(keys(var.used_by), ["writer", "restorer", "auditor", "pruner"])) == 0
    error_message = "used_by has a role other than writer, restorer, auditor and pruner."
  }

  validation {
    condition     = alltrue(flatten([for by in values(var.used_by) : [for member in by.principals : can(regex("^(user|group|serviceAccount):.", member))]]))
    error_message = "principals must be members of IAM: user:…, group:… or serviceAccount:…"
  }

  validation {
    condition = alltrue(flatten([
      for by in values(var.used_by) : [
        for member in by.workload_identities : can(regex("^(principal://|principalSet://[^*]+/attribute\\.|serviceAccount:[^\\[]+\\.svc\\.id\\.goog\\[[a-z0-9-]+/[a-z0-9.-]+\\]$)", member))
      ]
    ]))
    error_message = "workload_identities must be principal://…, principalSet://…/attribute.…, or serviceAccount:PROJECT.svc.id.goog[NAMESPACE/NAME]; a whole pool is too much."
  }
}

variable "signing_keys" {
  description = <<-EOT
    The KMS key with which each account signs, by the account's name: writer, restorer or pruner. Give the keys' full names:
    projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY. The accounts may sign, and may read the public key. Give each account
    a key of its own.
  EOT
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.signing_keys), setsubtract(keys(var.used_by), ["auditor"]))) == 0
    error_message = "signing_keys has an account that used_by doesn't have, or that has nothing to sign."
  }

  validation {
    condition     = alltrue([for id in values(var.signing_keys) : can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", id))])
    error_message = "signing_keys must be projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY, without a version."
  }
}

variable "cluster" {
  description = "Name of the PostgreSQL server in the backups, for the output pgstow_toml."
  type        = string
  default     = "prod"
}

variable "databases" {
  description = "The databases in the output pgstow_toml. Give a libpq connection string for each database, without a password."
  type        = map(string)
  default     = { shop = "service=shop" }
}

variable "project" {
  description = "ID of the project for the bucket, the key and the service accounts."
  type        = string
}

variable "bucket_name" {
  description = "Name of the bucket. The key ring has the same name. The name of the bucket for access logs begins with this name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,49}[a-z0-9]$", var.bucket_name)) && !startswith(var.bucket_name, "goog")
    error_message = "bucket_name must have 3 to 51 lower-case letters, digits and hyphens, begin and end with a letter or a digit, and not begin with goog."
  }
}

variable "account_prefix" {
  description = "Beginning of the names of the service accounts, such as pgstow in pgstow-writer. Google allows 30 characters for a whole name."
  type        = string
  default     = "pgstow"
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

variable "kms_key" {
  description = <<-EOT
    A KMS key of your own to encrypt with, in the bucket's location. Give its full name:
    projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY. The module lets Cloud Storage use the key. If null, the module
    makes a key.
  EOT
  type = object({
    id = string
  })
  default = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key.id))
    error_message = "kms_key.id must be projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY."
  }
}

variable "signing_keys" {
  description = <<-EOT
    The accounts for which the module makes a KMS key that signs: writer, restorer or pruner. The accounts must be in used_by. The output
    signing_keys has the keys for pgstow's --sign-with.
  EOT
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.signing_keys, setsubtract(keys(var.used_by), ["auditor"]))) == 0
    error_message = "signing_keys has an account that used_by doesn't have, or that has nothing to sign."
  }
}

variable "location" {
  description = "The bucket's region. With dual_region, give the multi-region that contains both regions: ASIA, EU or US."
  type        = string
}

variable "dual_region" {
  description = "Two regions that keep every object. If turbo is true, each new object is in both regions within 15 minutes. Null for a bucket in one region, which location names."
  type = object({
    regions = list(string)
    turbo   = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.dual_region == null || length(distinct(try(var.dual_region.regions, []))) == 2
    error_message = "dual_region.regions must be two regions."
  }

  validation {
    condition     = var.dual_region == null || contains(["ASIA", "EU", "US"], upper(var.location))
    error_message = "With dual_region, location must be ASIA, EU or US."
  }
}

variable "retention" {
  description = <<-EOT
    The retention policy. Nobody can delete or replace an object that is younger than this number of days. If locked is true, nobody can
    shorten or remove the policy. The bucket can then be deleted only when every object in it is old enough. A locked policy can't be
    unlocked. Null for no policy: the bucket then keeps versions.
  EOT
  type = object({
    days   = number
    locked = optional(bool, false)
  })
  default = { days = 30 }

  validation {
    condition     = var.retention == null || try(var.retention.days >= 1 && var.retention.days <= 36500 && floor(var.retention.days) == var.retention.days, false)
    error_message = "retention.days must be a whole number from 1 to 36500."
  }
}

variable "deleted_days" {
  description = "Days for which a deleted object can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.deleted_days >= 7 && var.deleted_days <= 90 && floor(var.deleted_days) == var.deleted_days
    error_message = "deleted_days must be a whole number from 7 to 90."
  }
}

variable "transitions" {
  description = <<-EOT
    When objects under data/ move to colder storage classes. List the soonest move first. Manifests stay in the standard class. Objects
    of every class can be read without delay. In each class, you pay for a minimum duration, even if an object is deleted sooner. The
    minimum is counted from when the object was stored: 30 days in NEARLINE, 90 in COLDLINE and 365 in ARCHIVE. Use COLDLINE and ARCHIVE
    only for backups that pgstow prune keeps at least that long.
  EOT
  type = list(object({
    days          = number
    storage_class = string
  }))
  default = [{ days = 30, storage_class = "NEARLINE" }]

  validation {
    condition     = alltrue([for step in var.transitions : contains(["NEARLINE", "COLDLINE", "ARCHIVE"], step.storage_class)])
    error_message = "Each storage_class must be NEARLINE, COLDLINE or ARCHIVE."
  }

  validation {
    condition     = alltrue([for step in var.transitions : step.days >= 1 && floor(step.days) == step.days])
    error_message = "Each transition's days must be a whole number of 1 at least."
  }

  validation {
    condition     = alltrue([for at in range(1, max(1, length(var.transitions))) : var.transitions[at].days > var.transitions[at - 1].days])
    error_message = "transitions must be in the order of their days, each later than the one before."
  }
}

variable "access_log_bucket" {
  description = "Name of an existing bucket for the access logs. If null, the module makes a bucket, named after bucket_name."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days after which access logs are deleted. This input counts only if the module makes the log bucket."
  type        = number
  default     = 365

  validation {
    condition     = var.access_log_days >= 1 && floor(var.access_log_days) == var.access_log_days
    error_message = "access_log_days must be a whole number of 1 at least."
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

variable "labels" {
  description = "Labels for every resource that can have labels."
  type        = map(string)
  default     = {}
}

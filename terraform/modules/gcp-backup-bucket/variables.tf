variable "project" {
  description = "ID of the project that bucket, key and service accounts belong to."
  type        = string
}

variable "bucket_name" {
  description = "Name of the bucket. The access logs' bucket and the key are named after it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,49}[a-z0-9]$", var.bucket_name)) && !startswith(var.bucket_name, "goog")
    error_message = "bucket_name must have 3 to 51 lower-case letters, digits and hyphens, begin and end with a letter or a digit, and not begin with goog."
  }
}

variable "account_prefix" {
  description = "What the names of the service accounts begin with, which have 30 characters at most: pgstow-writer and so on."
  type        = string
  default     = "pgstow"
}

variable "prefix" {
  description = "Folder in the bucket that pgstow's objects go under, without a slash at either end."
  type        = string
  default     = "postgres"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.prefix))
    error_message = "prefix must be folder names of letters, digits, “_”, “.” and “-”, with single slashes between them and none at the ends."
  }
}

variable "kms_key" {
  description = <<-EOT
    A key of your own to encrypt with, where the bucket is, as projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY. Storage is allowed
    to use it. Null to make one.
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

variable "location" {
  description = "Region, or with dual_region the multi-region (ASIA, EU or US) that both regions lie in."
  type        = string
}

variable "dual_region" {
  description = "Two regions that every object is kept in; with turbo, within 15 minutes. Null to keep it where location says."
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
    How long nobody can delete or replace an object: so many days from when it was put. Locked, the policy can't be shortened or taken away any more,
    and the bucket can't be deleted before its last object may be; that can't be undone. Null for none: the bucket keeps versions then.
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
  description = "Days for which a deleted object can still be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.deleted_days >= 7 && var.deleted_days <= 90 && floor(var.deleted_days) == var.deleted_days
    error_message = "deleted_days must be a whole number from 7 to 90."
  }
}

variable "transitions" {
  description = <<-EOT
    When objects under data/ move to colder storage classes, the soonest first. Manifests stay where they are. Every class can be read at once.
    An object that is deleted sooner than its class's minimum is paid for all the same: 30 days in NEARLINE, 90 in COLDLINE, 365 in ARCHIVE,
    counted from when it was put. So give COLDLINE and ARCHIVE only to what pgstow prune keeps for so long.
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
  description = "Name of a bucket that is there already and takes the access logs. Null to make one, named after the bucket."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days after which the access logs in the bucket that this module makes are deleted."
  type        = number
  default     = 365

  validation {
    condition     = var.access_log_days >= 1 && floor(var.access_log_days) == var.access_log_days
    error_message = "access_log_days must be a whole number of 1 at least."
  }
}

variable "used_by" {
  description = <<-EOT
    The service accounts to make, any of writer, restorer, auditor and pruner, and who may act as each:
    - principals: members of IAM, such as "group:dba@example.com" or "serviceAccount:…", who may take its tokens
    - workload_identities: members of a Workload Identity pool, as "principal://…" or "principalSet://…" (GitHub, AWS …), or service accounts of
      GKE, as "serviceAccount:PROJECT.svc.id.goog[NAMESPACE/NAME]"
    An account with neither can be given to a machine, a Cloud Run job and the like.
  EOT
  type = map(object({
    principals          = optional(list(string), [])
    workload_identities = optional(list(string), [])
  }))
}

variable "cluster" {
  description = "The name that the output pgstow_toml files backups under."
  type        = string
  default     = "prod"
}

variable "databases" {
  description = "The databases in the output pgstow_toml, each with libpq's connection string, without a password."
  type        = map(string)
  default     = { shop = "service=shop" }
}

variable "labels" {
  description = "Labels for everything that can have them."
  type        = map(string)
  default     = {}
}

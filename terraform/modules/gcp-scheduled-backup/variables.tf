variable "project" {
  description = "ID of the project that the job runs in."
  type        = string
}

variable "region" {
  description = "Where the job runs, best where the bucket is."
  type        = string
}

variable "name" {
  description = "What job, schedule and the schedule's service account are named."
  type        = string
  default     = "pgstow"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name))
    error_message = "name must have 2 to 20 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "image" {
  description = "The container image, built from the Dockerfile of this repository, with a tag or a digest that stays what it is."
  type        = string

  validation {
    condition     = can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]*)$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must have a tag other than latest, or a digest."
  }
}

variable "store_url" {
  description = "Where backups go: the output url of gcp-backup-bucket."
  type        = string

  validation {
    condition     = can(regex("^(s3|gs)://", var.store_url))
    error_message = "store_url must begin with s3:// or gs://."
  }
}

variable "service_account" {
  description = "The e-mail address of the account that the job acts as: the writer of gcp-backup-bucket."
  type        = string

  validation {
    condition     = can(regex("^[^@:]+@[^@]+\\.gserviceaccount\\.com$", var.service_account))
    error_message = "service_account must be a service account's e-mail address."
  }
}

variable "command" {
  description = "pgstow's arguments."
  type        = list(string)
  default     = ["backup"]
}

variable "environment" {
  description = "libpq's environment: PGHOST, PGUSER, PGDATABASE, PGSSLMODE and the like. No secrets: whoever may see the job sees these."
  type        = map(string)

  validation {
    condition     = !contains(keys(var.environment), "PGPASSWORD")
    error_message = "PGPASSWORD belongs into secrets."
  }
}

variable "secrets" {
  description = "Environment variables whose values come from Secret Manager, by the secret's name in this project, such as { PGPASSWORD = \"shop-backup\" }. The service account is given the right to read them."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in values(var.secrets) : can(regex("^[A-Za-z0-9_-]{1,255}$", name))])
    error_message = "secrets must be names of secrets: letters, digits, “_” and “-”."
  }
}

variable "schedule" {
  description = "When, in the five fields of a crontab."
  type        = string
  default     = "47 2 * * *"

  validation {
    condition     = can(regex("^\\S+( \\S+){4}$", var.schedule))
    error_message = "schedule must have a crontab's five fields."
  }
}

variable "time_zone" {
  description = "The time zone that the schedule means."
  type        = string
  default     = "Etc/UTC"
}

variable "network" {
  description = "The VPC's network and subnetwork that the server is reached by. Null for the internet."
  type = object({
    network    = string
    subnetwork = string
  })
  default = null
}

variable "cpu" {
  description = "Processors."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 4, 6, 8], var.cpu)
    error_message = "cpu must be 1, 2, 4, 6 or 8."
  }
}

variable "memory_gib" {
  description = "GiB of memory. The spool is in it too: Cloud Run has no disk."
  type        = number
  default     = 2

  validation {
    condition     = var.memory_gib >= 1 && var.memory_gib <= 32 && floor(var.memory_gib) == var.memory_gib
    error_message = "memory_gib must be a whole number from 1 to 32."
  }
}

variable "timeout_hours" {
  description = "Hours after which a job that still runs is stopped."
  type        = number
  default     = 12

  validation {
    condition     = var.timeout_hours >= 1 && var.timeout_hours <= 168 && floor(var.timeout_hours) == var.timeout_hours
    error_message = "timeout_hours must be a whole number from 1 to 168."
  }
}

variable "labels" {
  description = "Labels for everything that can have them."
  type        = map(string)
  default     = {}
}

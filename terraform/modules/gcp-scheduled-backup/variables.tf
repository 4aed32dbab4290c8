variable "project" {
  description = "ID of the project for the job."
  type        = string
}

variable "region" {
  description = "Region of the job. The best choice is the bucket's region."
  type        = string
}

variable "name" {
  description = "Name of the job and the schedule. The name of the schedule's service account begins with this name."
  type        = string
  default     = "pgstow"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name))
    error_message = "name must have 2 to 20 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "image" {
  description = "The container image, built from the Dockerfile of this repository. Give a digest, or a tag that always names the same image."
  type        = string

  validation {
    condition     = can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]*)$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must have a tag other than latest, or a digest."
  }
}

variable "store_url" {
  description = "The store for the backups: the output url of gcp-backup-bucket."
  type        = string

  validation {
    condition     = can(regex("^(s3|gs)://", var.store_url))
    error_message = "store_url must begin with s3:// or gs://."
  }
}

variable "service_account" {
  description = "The e-mail address of the job's service account: the writer of gcp-backup-bucket."
  type        = string

  validation {
    condition     = can(regex("^[^@:]+@[^@]+\\.gserviceaccount\\.com$", var.service_account))
    error_message = "service_account must be a service account's e-mail address."
  }
}

variable "command" {
  description = "The arguments of pgstow."
  type        = list(string)
  default     = ["backup"]
}

variable "environment" {
  description = "Variables for libpq: PGHOST, PGUSER, PGDATABASE, PGSSLMODE and so on. Give no secrets here: everybody who can see the job sees these variables."
  type        = map(string)

  validation {
    condition     = !contains(keys(var.environment), "PGPASSWORD")
    error_message = "PGPASSWORD belongs into secrets."
  }
}

variable "secrets" {
  description = <<-EOT
    Variables whose values Cloud Run reads from Secret Manager. Give the name of a secret in this project for each variable, such as {
    PGPASSWORD = "shop-backup" }. The module lets the service account read the secrets.
  EOT
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in values(var.secrets) : can(regex("^[A-Za-z0-9_-]{1,255}$", name))])
    error_message = "secrets must be names of secrets: letters, digits, “_” and “-”."
  }
}

variable "schedule" {
  description = "When the job runs, in the five fields of a crontab."
  type        = string
  default     = "47 2 * * *"

  validation {
    condition     = can(regex("^\\S+( \\S+){4}$", var.schedule))
    error_message = "schedule must have a crontab's five fields."
  }
}

variable "time_zone" {
  description = "The time zone of the schedule."
  type        = string
  default     = "Etc/UTC"
}

variable "network" {
  description = "The VPC network and subnetwork from which the job reaches the PostgreSQL server. If null, the job connects over the internet."
  type = object({
    network    = string
    subnetwork = string
  })
  default = null
}

variable "cpu" {
  description = "Number of processors."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 4, 6, 8], var.cpu)
    error_message = "cpu must be 1, 2, 4, 6 or 8."
  }
}

variable "memory_gib" {
  description = "Memory in GiB. Cloud Run has no disk, so the memory must also hold the spool."
  type        = number
  default     = 2

  validation {
    condition     = var.memory_gib >= 1 && var.memory_gib <= 32 && floor(var.memory_gib) == var.memory_gib
    error_message = "memory_gib must be a whole number from 1 to 32."
  }
}

variable "timeout_hours" {
  description = "Hours after which Cloud Run stops a job that still runs."
  type        = number
  default     = 12

  validation {
    condition     = var.timeout_hours >= 1 && var.timeout_hours <= 168 && floor(var.timeout_hours) == var.timeout_hours
    error_message = "timeout_hours must be a whole number from 1 to 168."
  }
}

variable "labels" {
  description = "Labels for every resource that can have labels."
  type        = map(string)
  default     = {}
}

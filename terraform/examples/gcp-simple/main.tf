# A bucket in the EU for nightly backups. A machine with the writer's service account backs up, and the operators restore and prune.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 7.0"
    }
  }
}

variable "project" {
  description = "ID of the project for the backups. The best choice is a project with nothing else in it."
  type        = string
}

variable "bucket_name" {
  description = "The bucket's name. No other bucket in the world may have it."
  type        = string
}

variable "operators" {
  description = "Who restores and prunes, such as group:dba@example.com."
  type        = list(string)
}

provider "google" {
  project = var.project
}

module "backups" {
  source = "../../modules/gcp-backup-bucket"

  project     = var.project
  bucket_name = var.bucket_name
  location    = "EU"

  used_by = {
    writer   = {}
    restorer = { principals = var.operators }
    pruner   = { principals = var.operators }
  }
}

output "pgstow_toml" {
  description = "A pgstow.toml. To write it to a file: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "writer" {
  description = "The service account to give to the machine that backs up."
  value       = module.backups.service_accounts["writer"]
}

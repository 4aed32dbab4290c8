# A bucket for the nightly backups of one machine: its EC2 instance backs up, and the operators restore and prune.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.90, < 7.0"
    }
  }
}

variable "bucket_name" {
  description = "The bucket's name, which has to be nobody else's in the world."
  type        = string
}

variable "region" {
  description = "Where the backups are."
  type        = string
}

variable "operators" {
  description = "ARNs of the roles or users who restore and prune."
  type        = list(string)
}

provider "aws" {
  region = var.region
}

module "backups" {
  source = "../../modules/aws-backup-bucket"

  bucket_name = var.bucket_name

  trusted_by = {
    writer   = { ec2 = true }
    restorer = { principals = var.operators }
    pruner   = { principals = var.operators }
  }
}

output "pgstow_toml" {
  description = "Write it down by: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "instance_profile" {
  description = "Give it to the instance that backs up."
  value       = module.backups.instance_profiles["writer"]
}

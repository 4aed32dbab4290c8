# A bucket for the nightly backups of one EC2 instance. The instance backs up, and the operators restore and prune.

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
  description = "The bucket's name. No other bucket in the world may have it."
  type        = string
}

variable "region" {
  description = "Region of the bucket."
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
  description = "A pgstow.toml. To write it to a file: terraform output -raw pgstow_toml > pgstow.toml"
  value       = module.backups.pgstow_toml
}

output "instance_profile" {
  description = "The instance profile for the instance that backs up."
  value       = module.backups.instance_profiles["writer"]
}

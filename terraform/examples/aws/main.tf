# A bucket for nightly backups, and a copy of the bucket in another region.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.90, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

provider "aws" {
  alias  = "replica"
  region = var.replica_region
}

module "backups" {
  source = "../../modules/aws-backup-bucket"

  bucket_name = var.bucket_name
  object_lock = { mode = "GOVERNANCE", days = 30 }
  tags        = { purpose = "backups" }

  trusted_by = {
    writer   = { ec2 = true, ecs = true }
    restorer = { principals = var.operators }
    auditor  = { principals = var.auditors }
    pruner   = { ecs = true }
  }

  databases = { shop = "service=shop" }

  replication = {
    bucket_arn  = module.replica.bucket_arn
    kms_key_arn = module.replica.kms_key_arn
  }
}

module "replica" {
  source    = "../../modules/aws-backup-bucket"
  providers = { aws = aws.replica }

  bucket_name = "${var.bucket_name}-replica"
  object_lock = { mode = "GOVERNANCE", days = 30 }
  tags        = { purpose = "backups" }

  # If the first region is lost, the operators restore from this bucket.
  trusted_by = {
    restorer = { principals = var.operators }
  }
}

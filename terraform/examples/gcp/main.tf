# A bucket for nightly backups, with every object in two regions.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 7.0"
    }
  }
}

provider "google" {
  project = var.project
}

module "backups" {
  source = "../../modules/gcp-backup-bucket"

  project     = var.project
  bucket_name = var.bucket_name
  location    = "EU"
  dual_region = { regions = ["europe-west1", "europe-west4"] }
  retention   = { days = 30 }
  labels      = { purpose = "backups" }

  used_by = {
    writer   = { workload_identities = var.writers }
    restorer = { principals = var.operators }
    auditor  = { principals = var.auditors }
    pruner   = {}
  }

  databases = { shop = "service=shop" }
}

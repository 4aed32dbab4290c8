data "google_storage_project_service_account" "storage" {
  project = var.project
}

locals {
  kms_key = var.kms_key == null ? one(google_kms_crypto_key.backups[*].id) : var.kms_key.id
  day     = 24 * 60 * 60
}

resource "google_storage_bucket" "backups" {
  project                     = var.project
  name                        = var.bucket_name
  location                    = upper(var.location)
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
  labels                      = var.labels
  rpo                         = var.dual_region == null ? null : var.dual_region.turbo ? "ASYNC_TURBO" : "DEFAULT"

  # Cloud Storage encrypts as its own service account, which needs the right to use the key first.
  depends_on = [google_kms_crypto_key_iam_member.storage]

  encryption {
    default_kms_key_name = local.kms_key
  }

  # With a retention policy, nothing can be replaced or deleted, so no versions are needed. Google long refused a bucket with both.
  versioning {
    enabled = var.retention == null
  }

  soft_delete_policy {
    retention_duration_seconds = var.deleted_days * local.day
  }

  dynamic "retention_policy" {
    for_each = var.retention[*]

    content {
      retention_period = retention_policy.value.days * local.day
      is_locked        = retention_policy.value.locked
    }
  }

  dynamic "custom_placement_config" {
    for_each = var.dual_region[*]

    content {
      data_locations = [for region in custom_placement_config.value.regions : upper(region)]
    }
  }

  logging {
    log_bucket        = local.log_bucket
    log_object_prefix = var.bucket_name
  }

  dynamic "lifecycle_rule" {
    for_each = var.transitions

    content {
      action {
        type          = "SetStorageClass"
        storage_class = lifecycle_rule.value.storage_class
      }

      condition {
        age            = lifecycle_rule.value.days
        matches_prefix = ["${var.prefix}/data/"]
      }
    }
  }

  # Live objects never expire by age, since that would delete even the last good backup. pgstow prune decides what to delete.
  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      days_since_noncurrent_time = var.deleted_days
      with_state                 = "ARCHIVED"
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = 7
    }
  }
}

resource "google_kms_key_ring" "backups" {
  count   = var.kms_key == null || length(var.signing_keys) > 0 ? 1 : 0
  project = var.project
  name    = var.bucket_name

  # The key is in the bucket's location. Cloud KMS calls the multi-region EU europe.
  location = upper(var.location) == "EU" ? "europe" : lower(var.location)
}

resource "google_kms_crypto_key" "backups" {
  #checkov:skip=CKV_GCP_82:With prevent_destroy, the module's own tests couldn't clean up; a destroyed version can be restored for 30 days
  count           = var.kms_key == null ? 1 : 0
  name            = "backups"
  key_ring        = google_kms_key_ring.backups[0].id
  purpose         = "ENCRYPT_DECRYPT"
  rotation_period = "7776000s"
  labels          = var.labels

  # Without the key, every backup is lost. For so long, the key's destruction can be cancelled.
  destroy_scheduled_duration = "${30 * local.day}s"
}

# KMS doesn't rotate a key that signs. To change the key, trust both public keys for a while.
resource "google_kms_crypto_key" "signing" {
  #checkov:skip=CKV_GCP_82:With prevent_destroy, the module's own tests couldn't clean up; a destroyed version can be restored for 30 days
  for_each                   = var.signing_keys
  name                       = "signing-${each.key}"
  key_ring                   = google_kms_key_ring.backups[0].id
  purpose                    = "ASYMMETRIC_SIGN"
  destroy_scheduled_duration = "${30 * local.day}s"
  labels                     = var.labels

  version_template {
    algorithm = "EC_SIGN_P256_SHA256"
  }
}

resource "google_kms_crypto_key_iam_member" "storage" {
  crypto_key_id = local.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${data.google_storage_project_service_account.storage.email_address}"
}

module "roles" {
  source = "../gcp-backup-roles"

  project        = var.project
  bucket_name    = google_storage_bucket.backups.name
  prefix         = var.prefix
  account_prefix = var.account_prefix
  used_by        = var.used_by
  signing_keys   = { for role, key in google_kms_crypto_key.signing : role => key.id }
  cluster        = var.cluster
  databases      = var.databases
}

# An earlier version of this module made the service accounts itself.
moved {
  from = google_service_account.backups
  to   = module.roles.google_service_account.backups
}

moved {
  from = google_storage_bucket_iam_member.backups
  to   = module.roles.google_storage_bucket_iam_member.backups
}

moved {
  from = google_project_iam_custom_role.pruner
  to   = module.roles.google_project_iam_custom_role.pruner
}

moved {
  from = google_service_account_iam_member.principals
  to   = module.roles.google_service_account_iam_member.principals
}

moved {
  from = google_service_account_iam_member.workload_identities
  to   = module.roles.google_service_account_iam_member.workload_identities
}

locals {
  log_bucket = var.access_log_bucket == null ? google_storage_bucket.access_logs[0].name : var.access_log_bucket
}

resource "google_storage_bucket" "access_logs" {
  #checkov:skip=CKV_GCP_62:This bucket takes the access logs; if it logged into itself, the logs would never end
  count                       = var.access_log_bucket == null ? 1 : 0
  project                     = var.project
  name                        = "${var.bucket_name}-access-logs"
  location                    = upper(var.location)
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
  labels                      = var.labels

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      age        = var.access_log_days
      with_state = "ANY"
    }
  }
}

# Google writes the logs as this group. https://cloud.google.com/storage/docs/access-logs
resource "google_storage_bucket_iam_member" "access_logs" {
  count  = var.access_log_bucket == null ? 1 : 0
  bucket = google_storage_bucket.access_logs[0].name
  role   = "roles/storage.objectCreator"
  member = "group:cloud-storage-analytics@google.com"
}

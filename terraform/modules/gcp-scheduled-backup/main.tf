resource "google_cloud_run_v2_job" "backups" {
  project             = var.project
  name                = var.name
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  # Cloud Run reads the secrets when it makes the job.
  depends_on = [google_secret_manager_secret_iam_member.backups]

  template {
    task_count = 1

    template {
      service_account = var.service_account
      timeout         = "${var.timeout_hours * 60 * 60}s"

      # pgstow needs a complete Linux: its spool punches holes in files, and it pauses pg_dump by signals.
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"

      # A job that fails isn't started again, since pgstow itself has --retries.
      max_retries = 0

      containers {
        image = var.image
        args  = var.command

        resources {
          limits = {
            cpu    = tostring(var.cpu)
            memory = "${var.memory_gib}Gi"
          }
        }

        dynamic "env" {
          for_each = merge(var.environment, { PGSTOW_STORE = var.store_url })

          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = var.secrets

          content {
            name = env.key

            value_source {
              secret_key_ref {
                secret  = env.value
                version = "latest"
              }
            }
          }
        }
      }

      dynamic "vpc_access" {
        for_each = var.network[*]

        content {
          egress = "PRIVATE_RANGES_ONLY"

          network_interfaces {
            network    = vpc_access.value.network
            subnetwork = vpc_access.value.subnetwork
          }
        }
      }
    }
  }
}

resource "google_secret_manager_secret_iam_member" "backups" {
  for_each  = toset(values(var.secrets))
  project   = var.project
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${var.service_account}"
}

# The schedule's service account. It may run this job, and nothing else.
resource "google_service_account" "schedule" {
  project      = var.project
  account_id   = "${var.name}-schedule"
  display_name = "Runs the job ${var.name} on its schedule"
}

resource "google_cloud_run_v2_job_iam_member" "schedule" {
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_job.backups.name
  role     = "roles/run.invoker"
  member   = google_service_account.schedule.member
}

resource "google_cloud_scheduler_job" "backups" {
  project   = var.project
  region    = var.region
  name      = var.name
  schedule  = var.schedule
  time_zone = var.time_zone

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/projects/${var.project}/locations/${var.region}/jobs/${google_cloud_run_v2_job.backups.name}:run"

    oauth_token {
      service_account_email = google_service_account.schedule.email
    }
  }

  # This is for a job that can't be started.
  retry_config {
    retry_count          = 3
    min_backoff_duration = "60s"
  }
}

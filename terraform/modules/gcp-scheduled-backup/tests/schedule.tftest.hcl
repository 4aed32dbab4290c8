# The job and its schedule by each variable, against a provider that plans and applies nothing real.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      email  = "pgstow-schedule@acme-data.iam.gserviceaccount.com"
      member = "serviceAccount:pgstow-schedule@acme-data.iam.gserviceaccount.com"
    }
  }
}

variables {
  project         = "acme-data"
  region          = "europe-west3"
  image           = "europe-west3-docker.pkg.dev/acme-data/tools/pgstow:0.1.0"
  store_url       = "gs://acme-backups/postgres"
  service_account = "pgstow-writer@acme-data.iam.gserviceaccount.com"
  environment     = { PGHOST = "db.example.com", PGUSER = "backup", PGDATABASE = "shop" }
}

run "defaults" {
  assert {
    condition = (
      google_cloud_run_v2_job.backups.template[0].template[0].service_account == "pgstow-writer@acme-data.iam.gserviceaccount.com"
      && google_cloud_run_v2_job.backups.template[0].template[0].timeout == "43200s"
      && google_cloud_run_v2_job.backups.template[0].template[0].max_retries == 0
      && length(google_cloud_run_v2_job.backups.template[0].template[0].vpc_access) == 0
    )
    error_message = "The job acts as the writer, for twelve hours at most, once."
  }

  assert {
    condition = (
      google_cloud_run_v2_job.backups.template[0].template[0].containers[0].args == tolist(["backup"])
      && google_cloud_run_v2_job.backups.template[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "1", memory = "2Gi" })
    )
    error_message = "It backs up, within these limits."
  }

  assert {
    condition = { for entry in google_cloud_run_v2_job.backups.template[0].template[0].containers[0].env : entry.name => entry.value } == {
      PGSTOW_STORE = "gs://acme-backups/postgres"
      PGHOST       = "db.example.com"
      PGUSER       = "backup"
      PGDATABASE   = "shop"
    }
    error_message = "pgstow learns where from and where to."
  }

  assert {
    condition     = google_cloud_scheduler_job.backups.schedule == "47 2 * * *" && google_cloud_scheduler_job.backups.time_zone == "Etc/UTC"
    error_message = "Nightly."
  }

  assert {
    condition = (
      google_cloud_scheduler_job.backups.http_target[0].uri == "https://run.googleapis.com/v2/projects/acme-data/locations/europe-west3/jobs/pgstow:run"
      && google_cloud_scheduler_job.backups.http_target[0].oauth_token[0].service_account_email == "pgstow-schedule@acme-data.iam.gserviceaccount.com"
      && google_cloud_run_v2_job_iam_member.schedule.role == "roles/run.invoker"
      && google_cloud_run_v2_job_iam_member.schedule.member == "serviceAccount:pgstow-schedule@acme-data.iam.gserviceaccount.com"
    )
    error_message = "The schedule runs the job, as an account that may do so."
  }

  assert {
    condition     = length(google_secret_manager_secret_iam_member.backups) == 0
    error_message = "No right to any secret, if none is named."
  }
}

run "everything_else" {
  variables {
    name          = "shop"
    command       = ["backup", "--all-databases"]
    secrets       = { PGPASSWORD = "shop-backup" }
    schedule      = "17 */6 * * *"
    time_zone     = "Europe/Berlin"
    network       = { network = "acme", subnetwork = "databases" }
    cpu           = 4
    memory_gib    = 8
    timeout_hours = 24
    labels        = { team = "data" }
  }

  assert {
    condition     = output.job == "shop" && output.schedule == "shop" && google_service_account.schedule.account_id == "shop-schedule"
    error_message = "Everything has the name that was asked for."
  }

  assert {
    condition = [
      for entry in google_cloud_run_v2_job.backups.template[0].template[0].containers[0].env :
      "${entry.value_source[0].secret_key_ref[0].secret} ${entry.value_source[0].secret_key_ref[0].version}" if entry.name == "PGPASSWORD"
    ] == ["shop-backup latest"]
    error_message = "Cloud Run puts the secret into the environment."
  }

  assert {
    condition = (
      google_secret_manager_secret_iam_member.backups["shop-backup"].role == "roles/secretmanager.secretAccessor"
      && google_secret_manager_secret_iam_member.backups["shop-backup"].member == "serviceAccount:pgstow-writer@acme-data.iam.gserviceaccount.com"
    )
    error_message = "The job may read this secret."
  }

  assert {
    condition = (
      google_cloud_run_v2_job.backups.template[0].template[0].containers[0].args == tolist(["backup", "--all-databases"])
      && google_cloud_run_v2_job.backups.template[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "4", memory = "8Gi" })
      && google_cloud_run_v2_job.backups.template[0].template[0].timeout == "86400s"
      && google_cloud_run_v2_job.backups.labels["team"] == "data"
    )
    error_message = "The job is as large and as labelled as was asked for."
  }

  assert {
    condition = (
      google_cloud_run_v2_job.backups.template[0].template[0].vpc_access[0].network_interfaces[0].network == "acme"
      && google_cloud_run_v2_job.backups.template[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == "databases"
    )
    error_message = "The server is reached by the VPC."
  }

  assert {
    condition     = google_cloud_scheduler_job.backups.schedule == "17 */6 * * *" && google_cloud_scheduler_job.backups.time_zone == "Europe/Berlin"
    error_message = "The schedule is the one that was asked for."
  }
}

run "a_name_too_long_for_an_account_s" {
  command = plan

  variables {
    name = "nightly-backups-of-the-shop"
  }

  expect_failures = [var.name]
}

run "an_image_that_changes" {
  command = plan

  variables {
    image = "europe-west3-docker.pkg.dev/acme-data/tools/pgstow:latest"
  }

  expect_failures = [var.image]
}

run "a_store_without_a_scheme" {
  command = plan

  variables {
    store_url = "acme-backups/postgres"
  }

  expect_failures = [var.store_url]
}

run "an_account_that_is_a_person_s" {
  command = plan

  variables {
    service_account = "me@example.com"
  }

  expect_failures = [var.service_account]
}

run "a_password_for_all_to_see" {
  command = plan

  variables {
    environment = { PGHOST = "db.example.com", PGPASSWORD = "hunter2" }
  }

  expect_failures = [var.environment]
}

run "a_secret_by_its_path" {
  command = plan

  variables {
    secrets = { PGPASSWORD = "projects/acme-data/secrets/shop-backup" }
  }

  expect_failures = [var.secrets]
}

run "a_schedule_of_another_cloud" {
  command = plan

  variables {
    schedule = "rate(1 day)"
  }

  expect_failures = [var.schedule]
}

run "three_processors" {
  command = plan

  variables {
    cpu = 3
  }

  expect_failures = [var.cpu]
}

run "half_a_gib" {
  command = plan

  variables {
    memory_gib = 0.5
  }

  expect_failures = [var.memory_gib]
}

run "more_than_a_week" {
  command = plan

  variables {
    timeout_hours = 200
  }

  expect_failures = [var.timeout_hours]
}

# The bucket by each of its variables, against a provider that plans and applies nothing real.

mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }

  mock_resource "google_kms_crypto_key" {
    defaults = { id = "projects/acme-data/locations/europe-west3/keyRings/acme-backups/cryptoKeys/made" }
  }
}

variables {
  project     = "acme-data"
  bucket_name = "acme-backups"
  location    = "europe-west3"
  used_by     = { writer = {} }
}

run "defaults" {
  assert {
    condition = alltrue([
      for bucket in [google_storage_bucket.backups, google_storage_bucket.access_logs[0]] :
      bucket.uniform_bucket_level_access && bucket.public_access_prevention == "enforced" && !bucket.force_destroy && bucket.project == "acme-data"
    ])
    error_message = "Neither bucket can be public, nor be destroyed with what is in it."
  }

  assert {
    condition     = google_storage_bucket.backups.retention_policy[0].retention_period == 30 * 86400 && !google_storage_bucket.backups.retention_policy[0].is_locked
    error_message = "Objects are kept for 30 days."
  }

  assert {
    condition     = !google_storage_bucket.backups.versioning[0].enabled
    error_message = "A bucket with a retention policy keeps no versions."
  }

  assert {
    condition     = google_storage_bucket.backups.soft_delete_policy[0].retention_duration_seconds == 30 * 86400
    error_message = "What was deleted can be brought back for 30 days."
  }

  assert {
    condition     = google_storage_bucket.backups.encryption[0].default_kms_key_name == google_kms_crypto_key.backups[0].id && google_kms_crypto_key.backups[0].rotation_period == "7776000s"
    error_message = "The bucket has a key of its own, which rotates."
  }

  assert {
    condition     = google_kms_crypto_key_iam_member.storage.member == "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com"
    error_message = "Storage may use the key, and nobody else."
  }

  assert {
    condition     = google_kms_key_ring.backups[0].location == "europe-west3" && google_storage_bucket.backups.location == "EUROPE-WEST3"
    error_message = "The key is where the bucket is."
  }

  assert {
    condition     = google_storage_bucket.backups.logging[0].log_bucket == "acme-backups-access-logs" && google_storage_bucket.backups.logging[0].log_object_prefix == "acme-backups"
    error_message = "Access is logged into a bucket of its own."
  }

  assert {
    condition     = google_storage_bucket_iam_member.access_logs[0].role == "roles/storage.objectCreator"
    error_message = "Google may write the logs."
  }

  assert {
    condition = (
      [for rule in google_storage_bucket.backups.lifecycle_rule : one(rule.action).type] == ["SetStorageClass", "Delete", "AbortIncompleteMultipartUpload"]
      && one(google_storage_bucket.backups.lifecycle_rule[0].condition).age == 30
      && one(google_storage_bucket.backups.lifecycle_rule[1].condition).days_since_noncurrent_time == 30
      && one(google_storage_bucket.backups.lifecycle_rule[2].condition).age == 7
    )
    error_message = "Data gets colder, old versions and incomplete uploads go away."
  }

  assert {
    condition     = one(google_storage_bucket.backups.lifecycle_rule[0].condition).matches_prefix == tolist(["postgres/data/"]) && one(google_storage_bucket.backups.lifecycle_rule[1].condition).with_state == "ARCHIVED"
    error_message = "Manifests stay as they are, and no live object expires by age."
  }

  assert {
    condition     = length(google_storage_bucket.backups.custom_placement_config) == 0
    error_message = "One region, unless two are asked for."
  }

  assert {
    condition     = output.url == "gs://acme-backups/postgres"
    error_message = "The URL names bucket and prefix."
  }
}

run "keys_that_sign" {
  variables {
    signing_keys = ["writer", "pruner"]
    kms_key      = { id = "projects/acme-keys/locations/europe-west3/keyRings/ours/cryptoKeys/backups" }
    used_by      = { writer = {}, pruner = {} }
  }

  assert {
    condition     = alltrue([for key in values(google_kms_crypto_key.signing) : key.purpose == "ASYMMETRIC_SIGN" && key.version_template[0].algorithm == "EC_SIGN_P256_SHA256"])
    error_message = "The keys sign."
  }

  assert {
    condition     = keys(output.signing_keys) == ["pruner", "writer"] && alltrue([for uri in values(output.signing_keys) : startswith(uri, "gcpkms:projects/") && endswith(uri, "/cryptoKeyVersions/1")])
    error_message = "pgstow can use the keys."
  }

  assert {
    condition     = google_kms_crypto_key.signing["writer"].name == "signing-writer" && google_kms_crypto_key.signing["writer"].key_ring == google_kms_key_ring.backups[0].id
    error_message = "Each key has a name, and a place."
  }
}

run "a_key_that_signs_for_the_auditor" {
  command = plan

  variables {
    signing_keys = ["auditor"]
    used_by      = { auditor = {} }
  }

  expect_failures = [var.signing_keys]
}

run "a_locked_retention_policy" {
  variables {
    retention = { days = 365, locked = true }
  }

  assert {
    condition     = google_storage_bucket.backups.retention_policy[0].retention_period == 365 * 86400 && google_storage_bucket.backups.retention_policy[0].is_locked
    error_message = "The policy is the one that was asked for."
  }
}

run "no_retention_policy" {
  variables {
    retention = null
  }

  assert {
    condition     = length(google_storage_bucket.backups.retention_policy) == 0 && google_storage_bucket.backups.versioning[0].enabled
    error_message = "Without a retention policy, the bucket keeps versions."
  }
}

run "a_key_of_one_s_own" {
  variables {
    kms_key = { id = "projects/acme-keys/locations/europe-west3/keyRings/ours/cryptoKeys/backups" }
  }

  assert {
    condition     = google_storage_bucket.backups.encryption[0].default_kms_key_name == "projects/acme-keys/locations/europe-west3/keyRings/ours/cryptoKeys/backups"
    error_message = "The bucket encrypts with the key."
  }

  assert {
    condition     = google_kms_crypto_key_iam_member.storage.crypto_key_id == output.kms_key && length(google_kms_crypto_key.backups) + length(google_kms_key_ring.backups) == 0
    error_message = "Storage may use it, and no other key is made."
  }
}

run "two_regions" {
  variables {
    location    = "eu"
    dual_region = { regions = ["europe-west1", "europe-west4"], turbo = true }
  }

  assert {
    condition = (
      toset(google_storage_bucket.backups.custom_placement_config[0].data_locations) == toset(["EUROPE-WEST1", "EUROPE-WEST4"])
      && google_storage_bucket.backups.location == "EU" && google_storage_bucket.backups.rpo == "ASYNC_TURBO"
    )
    error_message = "Objects are kept in both regions."
  }

  assert {
    condition     = google_kms_key_ring.backups[0].location == "europe"
    error_message = "The key is where both regions are."
  }
}

run "two_regions_in_their_own_time" {
  variables {
    location    = "US"
    dual_region = { regions = ["us-east1", "us-west1"] }
  }

  assert {
    condition     = google_storage_bucket.backups.rpo == "DEFAULT" && google_kms_key_ring.backups[0].location == "us"
    error_message = "Turbo replication has to be asked for."
  }
}

run "everything_else" {
  variables {
    account_prefix    = "acme-pg"
    prefix            = "db/prod"
    deleted_days      = 60
    transitions       = [{ days = 7, storage_class = "COLDLINE" }, { days = 90, storage_class = "ARCHIVE" }]
    access_log_bucket = "acme-logs"
    cluster           = "eu \"blue\""
    databases         = { shop = "service=shop", "odd name" = "host=db dbname='odd name'" }
    labels            = { team = "data" }
  }

  assert {
    condition     = google_storage_bucket.backups.soft_delete_policy[0].retention_duration_seconds == 60 * 86400 && one(google_storage_bucket.backups.lifecycle_rule[2].condition).days_since_noncurrent_time == 60
    error_message = "What was deleted can be brought back for 60 days."
  }

  assert {
    condition = [for rule in slice(google_storage_bucket.backups.lifecycle_rule, 0, 2) : "${one(rule.condition).age} ${one(rule.action).storage_class} ${join("", one(rule.condition).matches_prefix)}"] == [
      "7 COLDLINE db/prod/data/", "90 ARCHIVE db/prod/data/",
    ]
    error_message = "Data gets colder as asked for."
  }

  assert {
    condition     = google_storage_bucket.backups.logging[0].log_bucket == "acme-logs" && length(google_storage_bucket.access_logs) + length(google_storage_bucket_iam_member.access_logs) == 0
    error_message = "An existing bucket takes the access logs."
  }

  assert {
    condition     = google_storage_bucket.backups.labels["team"] == "data" && google_kms_crypto_key.backups[0].labels["team"] == "data"
    error_message = "Everything is labelled."
  }

  assert {
    condition     = output.pgstow_toml == <<-EOT
      [defaults]
      cluster = "eu \"blue\""

      [destinations.offsite]
      url = "gs://acme-backups/db/prod"

      [databases."odd name"]
      conninfo = "host=db dbname='odd name'"
      destinations = ["offsite"]

      [databases.shop]
      conninfo = "service=shop"
      destinations = ["offsite"]
    EOT
    error_message = "The printed pgstow.toml has what was asked for."
  }
}

run "no_transitions_and_short_logs" {
  variables {
    transitions     = []
    access_log_days = 30
  }

  assert {
    condition     = [for rule in google_storage_bucket.backups.lifecycle_rule : one(rule.action).type] == ["Delete", "AbortIncompleteMultipartUpload"]
    error_message = "Data stays as warm as it was put."
  }

  assert {
    condition     = one(google_storage_bucket.access_logs[0].lifecycle_rule[0].condition).age == 30
    error_message = "Access logs are kept for 30 days."
  }
}

run "a_bucket_name_that_storage_refuses" {
  command = plan

  variables {
    bucket_name = "google-backups"
  }

  expect_failures = [var.bucket_name]
}

run "a_prefix_with_a_slash_at_its_end" {
  command = plan

  variables {
    prefix = "postgres/"
  }

  expect_failures = [var.prefix]
}

run "one_region_twice" {
  command = plan

  variables {
    location    = "EU"
    dual_region = { regions = ["europe-west1", "europe-west1"] }
  }

  expect_failures = [var.dual_region]
}

run "two_regions_in_a_region" {
  command = plan

  variables {
    dual_region = { regions = ["europe-west1", "europe-west4"] }
  }

  expect_failures = [var.dual_region]
}

run "a_retention_of_no_days" {
  command = plan

  variables {
    retention = { days = 0 }
  }

  expect_failures = [var.retention]
}

run "deleted_and_gone_at_once" {
  command = plan

  variables {
    deleted_days = 0
  }

  expect_failures = [var.deleted_days]
}

run "an_unknown_storage_class" {
  command = plan

  variables {
    transitions = [{ days = 30, storage_class = "GLACIER" }]
  }

  expect_failures = [var.transitions]
}

run "a_transition_at_once" {
  command = plan

  variables {
    transitions = [{ days = 0, storage_class = "NEARLINE" }]
  }

  expect_failures = [var.transitions]
}

run "transitions_out_of_order" {
  command = plan

  variables {
    transitions = [{ days = 90, storage_class = "COLDLINE" }, { days = 30, storage_class = "NEARLINE" }]
  }

  expect_failures = [var.transitions]
}

run "logs_that_go_at_once" {
  command = plan

  variables {
    access_log_days = 0
  }

  expect_failures = [var.access_log_days]
}

run "a_key_by_its_name" {
  command = plan

  variables {
    kms_key = { id = "backups" }
  }

  expect_failures = [var.kms_key]
}

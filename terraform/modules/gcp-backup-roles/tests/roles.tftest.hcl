# Which accounts there are, what each may do, and who may act as it.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      email  = "made@acme-data.iam.gserviceaccount.com"
      member = "serviceAccount:made@acme-data.iam.gserviceaccount.com"
      name   = "projects/acme-data/serviceAccounts/made@acme-data.iam.gserviceaccount.com"
    }
  }

  mock_resource "google_project_iam_custom_role" {
    defaults = { id = "projects/acme-data/roles/pgstow_pruner" }
  }
}

variables {
  project     = "acme-data"
  bucket_name = "acme-backups"
}

run "four_accounts" {
  variables {
    used_by = { writer = {}, restorer = {}, auditor = {}, pruner = {} }
  }

  assert {
    condition = { for name, grant in google_storage_bucket_iam_member.backups : name => trimprefix(grant.role, "roles/storage.") } == {
      writer-creates-data           = "objectCreator"
      writer-creates-manifests      = "objectCreator"
      writer-creates-keys           = "objectCreator"
      writer-reads-manifests        = "objectViewer"
      restorer-reads                = "objectViewer"
      restorer-creates-attestations = "objectCreator"
      auditor-reads-manifests       = "objectViewer"
      auditor-reads-attestations    = "objectViewer"
      auditor-reads-tombstones      = "objectViewer"
      auditor-lists                 = "objectViewer"
      pruner-reads-manifests        = "objectViewer"
      pruner-reads-attestations     = "objectViewer"
      pruner-reads-tombstones       = "objectViewer"
      pruner-creates-tombstones     = "objectCreator"
      pruner-lists                  = "objectViewer"
      pruner-deletes                = "projects/acme-data/roles/pgstow_pruner"
    }
    error_message = "Each has its grants, and no others."
  }

  assert {
    condition = { for name, grant in google_storage_bucket_iam_member.backups : name => grant.condition[0].expression } == {
      writer-creates-data           = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/data/\")"
      writer-creates-manifests      = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/manifests/\")"
      writer-creates-keys           = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/keys/\")"
      writer-reads-manifests        = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/manifests/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/manifests/\")"
      restorer-reads                = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/\")"
      restorer-creates-attestations = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/attestations/\")"
      auditor-reads-manifests       = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/manifests/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/manifests/\")"
      auditor-reads-attestations    = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/attestations/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/attestations/\")"
      auditor-reads-tombstones      = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/pruned/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/pruned/\")"
      auditor-lists                 = "api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/\")"
      pruner-reads-manifests        = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/manifests/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/manifests/\")"
      pruner-reads-attestations     = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/attestations/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/attestations/\")"
      pruner-reads-tombstones       = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/pruned/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/pruned/\")"
      pruner-creates-tombstones     = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/pruned/\")"
      pruner-lists                  = "api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"postgres/\")"
      pruner-deletes                = "resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/data/\") || resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/manifests/\") || resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/attestations/\") || resource.name.startsWith(\"projects/_/buckets/acme-backups/objects/postgres/keys/\")"
    }
    error_message = "Each grant is held to its prefix."
  }

  assert {
    condition     = google_project_iam_custom_role.pruner[0].permissions == toset(["storage.objects.delete"]) || google_project_iam_custom_role.pruner[0].permissions == tolist(["storage.objects.delete"])
    error_message = "The pruner deletes, and does nothing else."
  }

  assert {
    condition     = length(google_service_account_iam_member.principals) + length(google_service_account_iam_member.workload_identities) == 0
    error_message = "Nobody may act as them, unless asked for."
  }

  assert {
    condition     = keys(output.service_accounts) == ["auditor", "pruner", "restorer", "writer"]
    error_message = "All four have an address."
  }
}

run "everything_else" {
  variables {
    account_prefix = "acme-pg"
    prefix         = "db/prod"
    cluster        = "blue"
    databases      = { "odd name" = "host=db dbname='odd name'" }
    used_by        = { writer = {} }
  }

  assert {
    condition     = google_service_account.backups["writer"].account_id == "acme-pg-writer"
    error_message = "The accounts are named as asked for."
  }

  assert {
    condition     = alltrue([for grant in values(google_storage_bucket_iam_member.backups) : strcontains(grant.condition[0].expression, "db/prod/") && !strcontains(grant.condition[0].expression, "postgres/")])
    error_message = "No grant is for another prefix."
  }

  assert {
    condition     = output.url == "gs://acme-backups/db/prod"
    error_message = "The URL names bucket and prefix."
  }

  assert {
    condition     = output.pgstow_toml == <<-EOT
      [defaults]
      cluster = "blue"

      [destinations.offsite]
      url = "gs://acme-backups/db/prod"

      [databases."odd name"]
      conninfo = "host=db dbname='odd name'"
      destinations = ["offsite"]
    EOT
    error_message = "The printed pgstow.toml has what was asked for."
  }
}

run "who_may_act_as_them" {
  variables {
    used_by = {
      writer = {
        workload_identities = [
          "serviceAccount:acme-data.svc.id.goog[backup/pgstow]",
          "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/github/attribute.repository/acme/ops",
        ]
      }
      restorer = { principals = ["group:dba@example.com"] }
    }
  }

  assert {
    condition = toset([for binding in google_service_account_iam_member.workload_identities : "${binding.role} ${binding.member}"]) == toset([
      "roles/iam.workloadIdentityUser serviceAccount:acme-data.svc.id.goog[backup/pgstow]",
      "roles/iam.workloadIdentityUser principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/github/attribute.repository/acme/ops",
    ])
    error_message = "The workloads may act as the writer."
  }

  assert {
    condition     = [for binding in google_service_account_iam_member.principals : "${binding.role} ${binding.member}"] == ["roles/iam.serviceAccountTokenCreator group:dba@example.com"]
    error_message = "People may act as the restorer."
  }

  assert {
    condition     = length(google_project_iam_custom_role.pruner) == 0
    error_message = "There is no role for a pruner that there isn't."
  }
}

run "keys_that_sign" {
  variables {
    used_by = { writer = {}, restorer = {}, auditor = {}, pruner = {} }
    signing_keys = {
      writer = "projects/acme-data/locations/europe/keyRings/acme/cryptoKeys/writer"
      pruner = "projects/acme-data/locations/europe/keyRings/acme/cryptoKeys/pruner"
    }
  }

  assert {
    condition = { for role, grant in google_kms_crypto_key_iam_member.signing : role => "${grant.role} ${grant.crypto_key_id}" } == {
      writer = "roles/cloudkms.signerVerifier projects/acme-data/locations/europe/keyRings/acme/cryptoKeys/writer"
      pruner = "roles/cloudkms.signerVerifier projects/acme-data/locations/europe/keyRings/acme/cryptoKeys/pruner"
    }
    error_message = "Each account signs with its own key, and with no other."
  }

  assert {
    condition     = google_kms_crypto_key_iam_member.signing["writer"].member == google_service_account.backups["writer"].member
    error_message = "The grant is the account's."
  }
}

run "a_key_that_signs_for_the_auditor" {
  command = plan

  variables {
    used_by      = { auditor = {} }
    signing_keys = { auditor = "projects/acme-data/locations/europe/keyRings/acme/cryptoKeys/auditor" }
  }

  expect_failures = [var.signing_keys]
}

run "a_version_of_a_key_that_signs" {
  command = plan

  variables {
    used_by      = { writer = {} }
    signing_keys = { writer = "projects/acme-data/locations/europe/keyRings/acme/cryptoKeys/writer/cryptoKeyVersions/1" }
  }

  expect_failures = [var.signing_keys]
}

run "an_unknown_role" {
  command = plan

  variables {
    used_by = { admin = {} }
  }

  expect_failures = [var.used_by]
}

run "everybody" {
  command = plan

  variables {
    used_by = { restorer = { principals = ["allAuthenticatedUsers"] } }
  }

  expect_failures = [var.used_by]
}

run "a_whole_pool" {
  command = plan

  variables {
    used_by = { writer = { workload_identities = ["principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/github/*"] } }
  }

  expect_failures = [var.used_by]
}

run "a_bucket_by_its_url" {
  command = plan

  variables {
    bucket_name = "gs://acme-backups"
    used_by     = { writer = {} }
  }

  expect_failures = [var.bucket_name]
}

run "a_prefix_too_long_for_an_account_s_name" {
  command = plan

  variables {
    account_prefix = "acme-postgres-backups-x"
    used_by        = { writer = {} }
  }

  expect_failures = [var.account_prefix]
}

run "a_prefix_that_ends_a_condition" {
  command = plan

  variables {
    prefix  = "x\") || true || (\""
    used_by = { writer = {} }
  }

  expect_failures = [var.prefix]
}

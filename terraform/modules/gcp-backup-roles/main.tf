locals {
  # Conditions limit rights to a prefix: for objects by their name, for listings by the prefix in the request.
  # https://cloud.google.com/iam/docs/conditions-attribute-reference
  object = "resource.name.startsWith(\"projects/_/buckets/${var.bucket_name}/objects/%s\")"
  listed = "api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"%s\")"

  creates = { for name, prefix in local.prefixes : name => format(local.object, prefix) }
  reads   = { for name, prefix in local.prefixes : name => "${format(local.object, prefix)} || ${format(local.listed, prefix)}" }
  lists   = { for name, prefix in local.prefixes : name => format(local.listed, prefix) }

  # A tombstone stays: it says that a backup was removed.
  deletes = join(" || ", [local.creates.data, local.creates.manifests, local.creates.attestations, local.creates.keys])

  prefixes = {
    everything   = "${var.prefix}/"
    data         = "${var.prefix}/data/"
    manifests    = "${var.prefix}/manifests/"
    attestations = "${var.prefix}/attestations/"
    tombstones   = "${var.prefix}/pruned/"
    keys         = "${var.prefix}/keys/"
  }

  # To replace an object, a role needs storage.objects.delete. So objectCreator can only create.
  creator = "roles/storage.objectCreator"
  viewer  = "roles/storage.objectViewer"

  grants = {
    writer = {
      creates-data      = { role = local.creator, condition = local.creates.data }
      creates-manifests = { role = local.creator, condition = local.creates.manifests }
      creates-keys      = { role = local.creator, condition = local.creates.keys }
      reads-manifests   = { role = local.viewer, condition = local.reads.manifests }
    }

    restorer = {
      reads                = { role = local.viewer, condition = local.reads.everything }
      creates-attestations = { role = local.creator, condition = local.creates.attestations }
    }

    # A listing has each object's size, CRC32C and generation. So the auditor needs no right to read data objects.
    auditor = {
      reads-manifests    = { role = local.viewer, condition = local.reads.manifests }
      reads-attestations = { role = local.viewer, condition = local.reads.attestations }
      reads-tombstones   = { role = local.viewer, condition = local.reads.tombstones }
      lists              = { role = local.viewer, condition = local.lists.everything }
    }

    # The listing also says when each object's retention ends.
    pruner = {
      reads-manifests    = { role = local.viewer, condition = local.reads.manifests }
      reads-attestations = { role = local.viewer, condition = local.reads.attestations }
      reads-tombstones   = { role = local.viewer, condition = local.reads.tombstones }
      creates-tombstones = { role = local.creator, condition = local.creates.tombstones }
      lists              = { role = local.viewer, condition = local.lists.everything }
      deletes            = { role = one(google_project_iam_custom_role.pruner[*].id), condition = local.deletes }
    }
  }

  granted = merge([
    for role in keys(var.used_by) : {
      for name, grant in local.grants[role] : "${role}-${name}" => merge(grant, { account = role })
    }
  ]...)
}

resource "google_service_account" "backups" {
  for_each     = var.used_by
  project      = var.project
  account_id   = "${var.account_prefix}-${each.key}"
  display_name = "pgstow's ${each.key} of ${var.bucket_name}/${var.prefix}"
}

resource "google_storage_bucket_iam_member" "backups" {
  for_each = local.granted
  bucket   = var.bucket_name
  role     = each.value.role
  member   = google_service_account.backups[each.value.account].member

  condition {
    title      = each.key
    expression = each.value.condition
  }
}

# The role may sign, verify and read the public key.
resource "google_kms_crypto_key_iam_member" "signing" {
  for_each      = var.signing_keys
  crypto_key_id = each.value
  role          = "roles/cloudkms.signerVerifier"
  member        = google_service_account.backups[each.key].member
}

# Google has no role that may delete and may not read.
resource "google_project_iam_custom_role" "pruner" {
  count       = contains(keys(var.used_by), "pruner") ? 1 : 0
  project     = var.project
  role_id     = "${replace(var.account_prefix, "-", "_")}_pruner"
  title       = "Deletes backups of ${var.bucket_name}"
  permissions = ["storage.objects.delete"]
}

resource "google_service_account_iam_member" "principals" {
  for_each = merge([
    for role, by in var.used_by : { for member in by.principals : "${role} ${member}" => { account = role, member = member } }
  ]...)
  service_account_id = google_service_account.backups[each.value.account].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value.member
}

resource "google_service_account_iam_member" "workload_identities" {
  for_each = merge([
    for role, by in var.used_by : { for member in by.workload_identities : "${role} ${member}" => { account = role, member = member } }
  ]...)
  service_account_id = google_service_account.backups[each.value.account].name
  role               = "roles/iam.workloadIdentityUser"
  member             = each.value.member
}

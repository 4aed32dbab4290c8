# The bucket by each of its variables, against a provider that plans and applies nothing real.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/0" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { region = "eu-central-1" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made" }
  }
}

variables {
  bucket_name = "acme-backups"
  trusted_by  = { writer = { ec2 = true } }
}

run "defaults" {
  assert {
    condition     = aws_s3_bucket.backups.object_lock_enabled && !aws_s3_bucket.backups.force_destroy
    error_message = "Object Lock is on and force_destroy off, unless asked otherwise."
  }

  assert {
    condition     = aws_s3_bucket_versioning.backups.versioning_configuration[0].status == "Enabled"
    error_message = "The bucket keeps versions."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.backups[0].rule[0].default_retention[0].mode == "GOVERNANCE" && aws_s3_bucket_object_lock_configuration.backups[0].rule[0].default_retention[0].days == 30
    error_message = "New objects are locked for 30 days."
  }

  assert {
    condition = alltrue([
      for block in [aws_s3_bucket_public_access_block.backups, aws_s3_bucket_public_access_block.access_logs[0]] :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ])
    error_message = "Neither bucket can be public."
  }

  assert {
    condition     = aws_kms_key.backups[0].enable_key_rotation
    error_message = "The key rotates."
  }

  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_server_side_encryption_configuration.backups.rule :
      !rule.bucket_key_enabled && rule.apply_server_side_encryption_by_default[0].kms_master_key_id == aws_kms_key.backups[0].arn
    ])
    error_message = "The bucket's own key encrypts each object by itself."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.backups.rule : rule.id] == ["data-gets-colder", "deleted-goes-away"]
    error_message = "Data gets colder, and what was deleted goes away."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.backups.rule[0].filter[0].prefix == "postgres/data/"
    error_message = "Manifests stay where they can be read at once."
  }

  assert {
    condition     = [for step in aws_s3_bucket_lifecycle_configuration.backups.rule[0].transition : "${step.days} ${step.storage_class}"] == ["0 INTELLIGENT_TIERING"]
    error_message = "Data goes to a class that asks for no minimum duration, whenever it is pruned."
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.backups.rule[1].noncurrent_version_expiration[0].noncurrent_days == 30
      && aws_s3_bucket_lifecycle_configuration.backups.rule[1].expiration[0].expired_object_delete_marker
      && aws_s3_bucket_lifecycle_configuration.backups.rule[1].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    )
    error_message = "Old versions, delete markers and incomplete uploads go away."
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.backups.rule : length([for expiration in rule.expiration : expiration if coalesce(expiration.days, 0) > 0]) == 0])
    error_message = "No current object expires by age."
  }

  assert {
    condition     = aws_s3_bucket_logging.backups.target_bucket == aws_s3_bucket.access_logs[0].id && aws_s3_bucket_logging.backups.target_prefix == "acme-backups/"
    error_message = "Access is logged into a bucket of its own."
  }

  assert {
    condition     = length(aws_s3_bucket_replication_configuration.backups) + length(aws_iam_role.replication) == 0
    error_message = "Nothing is replicated unless it is asked for."
  }

  assert {
    condition     = output.url == "s3://acme-backups/postgres?region=eu-central-1&kms_key=arn:aws:kms:eu-central-1:123456789012:key/0"
    error_message = "The URL names bucket, prefix, region and key."
  }
}

run "keys_that_sign" {
  variables {
    signing_keys = ["writer", "pruner"]
  }

  assert {
    condition     = alltrue([for key in values(aws_kms_key.signing) : key.key_usage == "SIGN_VERIFY" && key.customer_master_key_spec == "ECC_NIST_P256"])
    error_message = "The keys sign."
  }

  assert {
    condition     = keys(output.signing_keys) == ["pruner", "writer"] && alltrue([for uri in values(output.signing_keys) : startswith(uri, "awskms:arn:aws:kms:")])
    error_message = "pgstow can use the keys."
  }

  assert {
    condition     = aws_kms_alias.signing["writer"].name == "alias/acme-backups-signing-writer"
    error_message = "Each key has a name."
  }
}

run "a_key_that_signs_for_the_auditor" {
  command = plan

  variables {
    signing_keys = ["auditor"]
  }

  expect_failures = [var.signing_keys]
}

run "compliance_mode" {
  variables {
    object_lock = { mode = "COMPLIANCE", days = 365 }
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.backups[0].rule[0].default_retention[0].mode == "COMPLIANCE" && aws_s3_bucket_object_lock_configuration.backups[0].rule[0].default_retention[0].days == 365
    error_message = "The lock is the one that was asked for."
  }
}

run "no_object_lock" {
  variables {
    object_lock = null
  }

  assert {
    condition     = !aws_s3_bucket.backups.object_lock_enabled && length(aws_s3_bucket_object_lock_configuration.backups) == 0
    error_message = "Null means no Object Lock."
  }
}

run "other_prefix" {
  variables {
    prefix = "db/prod"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.backups.rule[0].filter[0].prefix == "db/prod/data/" && startswith(output.url, "s3://acme-backups/db/prod?")
    error_message = "The prefix is everywhere."
  }
}

run "a_key_and_a_boundary_of_one_s_own" {
  variables {
    kms_key              = { arn = "arn:aws:kms:eu-central-1:210987654321:key/mine" }
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    replication = {
      bucket_arn  = "arn:aws:s3:::acme-backups-replica"
      kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
    }
  }

  assert {
    condition     = length(aws_kms_key.backups) + length(aws_kms_alias.backups) == 0
    error_message = "No other key is made."
  }

  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_server_side_encryption_configuration.backups.rule :
      rule.apply_server_side_encryption_by_default[0].kms_master_key_id == "arn:aws:kms:eu-central-1:210987654321:key/mine"
    ])
    error_message = "The bucket encrypts with the key."
  }

  assert {
    condition     = endswith(output.url, "&kms_key=arn:aws:kms:eu-central-1:210987654321:key/mine") && output.kms_key_arn == "arn:aws:kms:eu-central-1:210987654321:key/mine"
    error_message = "pgstow names the key."
  }

  assert {
    condition     = strcontains(aws_s3_bucket_policy.backups.policy, "key/mine") && strcontains(aws_iam_role_policy.replication[0].policy, "key/mine")
    error_message = "The bucket refuses other keys, and its copies are made from what this one encrypts."
  }

  assert {
    condition     = aws_iam_role.replication[0].permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "The role that copies has the boundary too."
  }
}

run "transitions" {
  variables {
    transitions = [{ days = 30, storage_class = "STANDARD_IA" }, { days = 90, storage_class = "DEEP_ARCHIVE" }]
  }

  assert {
    condition = toset([
      for step in aws_s3_bucket_lifecycle_configuration.backups.rule[0].transition : "${step.days} ${step.storage_class}"
    ]) == toset(["30 STANDARD_IA", "90 DEEP_ARCHIVE"])
    error_message = "Both transitions are there."
  }
}

run "no_transitions" {
  variables {
    transitions = []
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.backups.rule : rule.id] == ["deleted-goes-away"]
    error_message = "Data stays as warm as it was put."
  }
}

run "noncurrent_days" {
  variables {
    noncurrent_days = 90
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.backups.rule[1].noncurrent_version_expiration[0].noncurrent_days == 90
    error_message = "What was deleted can be brought back for 90 days."
  }
}

run "access_logs_elsewhere" {
  variables {
    access_log_bucket = "acme-logs"
  }

  assert {
    condition     = aws_s3_bucket_logging.backups.target_bucket == "acme-logs" && length(aws_s3_bucket.access_logs) == 0
    error_message = "An existing bucket takes the access logs."
  }
}

run "access_log_days" {
  variables {
    access_log_days = 30
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.access_logs[0].rule[0].expiration[0].days == 30
    error_message = "Access logs are kept for 30 days."
  }
}

run "replication" {
  variables {
    replication = {
      bucket_arn    = "arn:aws:s3:::acme-backups-replica"
      kms_key_arn   = "arn:aws:kms:eu-west-1:123456789012:key/1"
      storage_class = "GLACIER_IR"
    }
  }

  assert {
    condition = (
      aws_s3_bucket_replication_configuration.backups[0].rule[0].destination[0].bucket == "arn:aws:s3:::acme-backups-replica"
      && aws_s3_bucket_replication_configuration.backups[0].rule[0].destination[0].storage_class == "GLACIER_IR"
      && aws_s3_bucket_replication_configuration.backups[0].rule[0].destination[0].encryption_configuration[0].replica_kms_key_id == "arn:aws:kms:eu-west-1:123456789012:key/1"
    )
    error_message = "Objects are copied to the bucket, class and key that were asked for."
  }

  assert {
    condition     = aws_s3_bucket_replication_configuration.backups[0].rule[0].delete_marker_replication[0].status == "Disabled"
    error_message = "Deletions aren't copied."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.replication[0].policy, "ReplicateDelete")
    error_message = "Not even if the rule said so."
  }
}

run "configuration_and_tags" {
  variables {
    cluster   = "eu \"blue\""
    databases = { shop = "service=shop", "odd name" = "host=db dbname='odd name'" }
    tags      = { team = "data" }
  }

  assert {
    condition     = output.pgstow_toml == <<-EOT
      [defaults]
      cluster = "eu \"blue\""

      [destinations.offsite]
      url = "s3://acme-backups/postgres?region=eu-central-1&kms_key=arn:aws:kms:eu-central-1:123456789012:key/0"

      [databases."odd name"]
      conninfo = "host=db dbname='odd name'"
      destinations = ["offsite"]

      [databases.shop]
      conninfo = "service=shop"
      destinations = ["offsite"]
    EOT
    error_message = "The printed pgstow.toml has what was asked for."
  }

  assert {
    condition = alltrue([
      for tags in [aws_s3_bucket.backups.tags, aws_s3_bucket.access_logs[0].tags, aws_kms_key.backups[0].tags] :
      tags["team"] == "data"
    ])
    error_message = "Everything is tagged."
  }
}

run "a_bucket_name_that_s3_refuses" {
  command = plan

  variables {
    bucket_name = "Acme_Backups"
  }

  expect_failures = [var.bucket_name]
}

run "a_bucket_name_with_no_room_for_its_log" {
  command = plan

  variables {
    bucket_name = "a2345678901234567890123456789012345678901234567890-2"
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

run "a_prefix_with_a_wildcard" {
  command = plan

  variables {
    prefix = "post*"
  }

  expect_failures = [var.prefix]
}

run "a_key_by_its_alias" {
  command = plan

  variables {
    kms_key = { arn = "arn:aws:kms:eu-central-1:123456789012:alias/mine" }
  }

  expect_failures = [var.kms_key]
}

run "an_unknown_lock_mode" {
  command = plan

  variables {
    object_lock = { mode = "governance", days = 30 }
  }

  expect_failures = [var.object_lock]
}

run "a_lock_of_no_days" {
  command = plan

  variables {
    object_lock = { mode = "GOVERNANCE", days = 0 }
  }

  expect_failures = [var.object_lock]
}

run "a_lock_of_half_a_day" {
  command = plan

  variables {
    object_lock = { mode = "GOVERNANCE", days = 1.5 }
  }

  expect_failures = [var.object_lock]
}

run "an_unknown_storage_class" {
  command = plan

  variables {
    transitions = [{ days = 30, storage_class = "COLDLINE" }]
  }

  expect_failures = [var.transitions]
}

run "a_transition_too_soon_for_its_class" {
  command = plan

  variables {
    transitions = [{ days = 7, storage_class = "STANDARD_IA" }]
  }

  expect_failures = [var.transitions]
}

run "transitions_out_of_order" {
  command = plan

  variables {
    transitions = [{ days = 90, storage_class = "GLACIER_IR" }, { days = 30, storage_class = "STANDARD_IA" }]
  }

  expect_failures = [var.transitions]
}

run "versions_that_go_at_once" {
  command = plan

  variables {
    noncurrent_days = 0
  }

  expect_failures = [var.noncurrent_days]
}

run "logs_that_go_at_once" {
  command = plan

  variables {
    access_log_days = 0
  }

  expect_failures = [var.access_log_days]
}

run "a_replica_by_its_name" {
  command = plan

  variables {
    replication = { bucket_arn = "acme-backups-replica", kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1" }
  }

  expect_failures = [var.replication]
}

run "a_replica_s_key_by_its_alias" {
  command = plan

  variables {
    replication = { bucket_arn = "arn:aws:s3:::acme-backups-replica", kms_key_arn = "alias/replica" }
  }

  expect_failures = [var.replication]
}

output "url" {
  description = "What pgstow takes for --to and --from, or as PGSTOW_STORE."
  value       = local.url
}

output "service_accounts" {
  description = "The e-mail address of each service account that was made: writer, restorer, auditor, pruner."
  value       = { for role, made in google_service_account.backups : role => made.email }
}

output "pgstow_toml" {
  description = "A pgstow.toml for this bucket, for pgstow run."
  value       = local.toml
}

locals {
  # The bucket's default key encrypts: naming it with each put would change nothing.
  url = "gs://${var.bucket_name}/${var.prefix}"

  # A string of JSON is one of TOML.
  toml = join("\n", concat(
    [
      "[defaults]",
      "cluster = ${jsonencode(var.cluster)}",
      "",
      "[destinations.offsite]",
      "url = \"${local.url}\"",
    ],
    flatten([
      for name, conninfo in var.databases : [
        "",
        "[databases.${can(regex("^[A-Za-z0-9_-]+$", name)) ? name : jsonencode(name)}]",
        "conninfo = ${jsonencode(conninfo)}",
        "destinations = [\"offsite\"]",
      ]
    ]),
    [""],
  ))
}

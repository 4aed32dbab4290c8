output "url" {
  description = "The store's URL, for --to, --from and PGSTOW_STORE."
  value       = local.url
}

output "service_accounts" {
  description = "The e-mail address of each service account, by its name: writer, restorer, auditor, pruner."
  value       = { for role, made in google_service_account.backups : role => made.email }
}

output "pgstow_toml" {
  description = "A pgstow.toml with this bucket, for pgstow run."
  value       = local.toml
}

locals {
  # The bucket encrypts with its default key. To name the key with each put would change nothing.
  url = "gs://${var.bucket_name}/${var.prefix}"

  # A JSON string is also a TOML string.
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

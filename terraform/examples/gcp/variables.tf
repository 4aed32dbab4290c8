variable "project" {
  description = "ID of the project for the backups, best one of their own."
  type        = string
}

variable "bucket_name" {
  description = "The bucket's name, which has to be nobody else's in the world."
  type        = string
}

variable "writers" {
  description = "Workloads that back up, such as serviceAccount:PROJECT.svc.id.goog[NAMESPACE/NAME] for a service account of GKE."
  type        = list(string)
  default     = []
}

variable "operators" {
  description = "Who restores, such as group:dba@example.com."
  type        = list(string)
}

variable "auditors" {
  description = "Who looks after the backups without reading them."
  type        = list(string)
}

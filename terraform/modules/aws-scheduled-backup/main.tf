data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

resource "aws_ecs_cluster" "backups" {
  name = var.name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "backups" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts the log with AWS's own key; pgstow logs names, and no data or secrets
  #checkov:skip=CKV_AWS_338:A year by default; log_days can change it
  name              = "/pgstow/${var.name}"
  retention_in_days = var.log_days
  tags              = var.tags
}

resource "aws_ecs_task_definition" "backups" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = var.task_role_arn
  execution_role_arn       = aws_iam_role.execution.arn
  tags                     = var.tags

  # The spool is on the task's ephemeral disk. The container can't write anywhere else.
  volume {
    name = "spool"
  }

  container_definitions = jsonencode([{
    name                   = "pgstow"
    image                  = var.image
    command                = var.command
    essential              = true
    readonlyRootFilesystem = true
    environment            = [for name, value in merge(var.environment, { PGSTOW_STORE = var.store_url }) : { name = name, value = value }]
    secrets                = [for name, arn in var.secrets : { name = name, valueFrom = arn }]
    mountPoints            = [{ sourceVolume = "spool", containerPath = "/spool", readOnly = false }]
    stopTimeout            = 120

    linuxParameters = {
      initProcessEnabled = true
      capabilities       = { drop = ["ALL"] }
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.backups.name
        awslogs-region        = data.aws_region.current.id
        awslogs-stream-prefix = "backup"
      }
    }
  }])
}

resource "aws_scheduler_schedule" "backups" {
  #checkov:skip=CKV_AWS_297:The schedule holds only names; AWS encrypts it with its own key
  name                         = var.name
  schedule_expression          = var.schedule
  schedule_expression_timezone = var.time_zone

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = var.start_within_minutes
  }

  target {
    arn      = aws_ecs_cluster.backups.arn
    role_arn = aws_iam_role.schedule.arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.backups.arn
      launch_type         = "FARGATE"
      task_count          = 1

      network_configuration {
        subnets          = var.subnet_ids
        security_groups  = var.security_group_ids
        assign_public_ip = false
      }
    }

    # This is for a task that can't be started. A task that fails isn't started again, since pgstow itself has --retries.
    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 5
    }
  }
}

data "azurerm_client_config" "current" {}

# One job for each pool, started by the control plane when the pool has work. By azapi, because azurerm
# has no argument for identitySettings.
resource "azapi_resource" "job" {
  for_each  = var.pools
  type      = "Microsoft.App/jobs@2025-01-01"
  name      = "${var.name}-${each.key}"
  location  = var.location
  parent_id = "/subscriptions/${data.azurerm_client_config.current.subscription_id}/resourceGroups/${var.resource_group_name}"
  tags      = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = concat([azurerm_user_assigned_identity.pull.id], each.value.job_identity_ids)
  }

  body = {
    properties = {
      environmentId       = azurerm_container_app_environment.executors.id
      workloadProfileName = each.value.workload_profile
      configuration = {
        triggerType       = "Manual"
        replicaTimeout    = each.value.longest_seconds
        replicaRetryLimit = 0 # a ticket and a JIT config are good once
        manualTriggerConfig = {
          parallelism            = 1
          replicaCompletionCount = 1
        }
        registries = var.registry == null ? [] : [{
          server   = var.registry.server
          identity = azurerm_user_assigned_identity.pull.id
        }]
        # None: no container of the job is given a token of it. Without this every step of every
        # workflow could ask for one.
        identitySettings = concat(
          [{ identity = azurerm_user_assigned_identity.pull.id, lifecycle = "None" }],
          [for id in each.value.job_identity_ids : { identity = id, lifecycle = "Main" }],
        )
      }
      template = {
        containers = [{
          name  = "executor"
          image = each.value.image
          args = concat(
            ["--pool", each.key, "--config", each.value.config],
            flatten([for variant in each.value.variants : ["--variant", variant]]),
          )
          # A start replaces the whole template, so the control plane reads this one, adds the ticket
          # of this one executor, and sends all of it.
          env = concat(
            [{ name = "MAYFLY_URL", value = var.control_plane.url }],
            [for name, value in each.value.environment : { name = name, value = value }],
          )
          resources = {
            cpu    = each.value.cpu
            memory = "${each.value.memory_gib != null ? each.value.memory_gib : each.value.cpu * 2}Gi"
          }
        }]
      }
    }
  }

  # The first pull comes with the first start, and needs the right.
  depends_on = [azurerm_role_assignment.pull]
}

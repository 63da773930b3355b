{{- /* Labels of a component: (list $ "score"). */ -}}
{{- define "driftloop.selector" -}}
app.kubernetes.io/name: driftloop
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "driftloop.labels" -}}
{{ include "driftloop.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{- define "driftloop.models" -}}
{{ .Values.models.existingClaim | default (printf "%s-models" .Release.Name) }}
{{- end }}

{{- /* Requests and limits of something that has cpus, gib, gibLimit and perhaps gpus. */ -}}
{{- define "driftloop.resources" -}}
requests:
  cpu: {{ printf "%dm" (mulf .cpus 1000 | int) }}
  memory: {{ printf "%dMi" (mulf .gib 1024 | int) }}
limits:
  memory: {{ printf "%dMi" (mulf .gibLimit 1024 | int) }}
  {{- if .gpus }}
  nvidia.com/gpu: {{ .gpus }}
  {{- end }}
{{- end }}

{{- define "driftloop.placement" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "driftloop.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

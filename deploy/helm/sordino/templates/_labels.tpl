{{- define "sordino.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}-coordinator
{{- end }}

{{- define "sordino.selector" -}}
app.kubernetes.io/name: sordino
app.kubernetes.io/component: coordinator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sordino.labels" -}}
{{ include "sordino.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sordino.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "speaker.labels" -}}
app.kubernetes.io/name: speaker
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .top.Release.Service }}
helm.sh/chart: {{ .top.Chart.Name }}-{{ .top.Chart.Version }}
{{- end }}

{{- define "speaker.selector" -}}
app.kubernetes.io/name: speaker
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "speaker.image" -}}
{{ .image.repository }}:{{ .image.tag | default .top.Chart.AppVersion }}
{{- end }}

{{- /* MetalLB's levels include all and none. */ -}}
{{- define "speaker.logLevel" -}}
{{ get (dict "all" "trace" "none" "error") . | default . }}
{{- end }}
